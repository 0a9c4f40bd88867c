//! The screen as a frame: a function of the [`Shot`] and the [`Screen`], whatever the size of the terminal.
//!
//! *Order.* How far to trust it, the course over time, the books, a list, the keys. Where there are few lines the course
//! shrinks to one and the books go: the list stays.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, SparklineBar};

use super::screen::Screen;
use super::shot::{FileState, LISTS, Shot, Step};
use crate::report::{many, shown, signed, span};
use crate::rss::{self, By};
use crate::units::Bytes;

/// The books: a title, the classes and what is unexplained.
const BOOKS_HEIGHT: u16 = 8;
/// Lines of a terminal from which on there are books, and a course of more than one line.
const TALL: u16 = 22;
/// Lines around the list: two above all, the course's axis, its own two, the keys.
const FRAME_HEIGHT: u16 = 6;
/// Columns of numbers: bytes and changes.
const NUMBER_WIDTH: usize = 11;

const KEYS: &str = "\u{2190}\u{2192} moment  Home/End  1-4/Tab list  \u{2191}\u{2193} scroll  ? help  q quit";
const HELP: [&str; 13] = [
    "Left, Right   the moment before, after (h, l)",
    "Home, End     the first moment; the end, which is followed while it grows",
    "1 2 3 4, Tab  ranges, stacks, threads, files",
    "Up, Down      scroll the list (k, j, -, +), PageUp, PageDown by a page",
    "?             this help; any key ends it",
    "q, Esc        quit",
    "",
    "resident      memory that the kernel counts as the RSS, by who or what has it",
    "change        since the recording's first reading of all pages",
    "median age    half of the bytes have been resident for at least so long",
    "unexplained   what the kernel counts and no page explains: the rest of the sum",
    "lost          records that were dropped: between them and the next reading, less is known",
    "anomalies     events that contradict others: pagetrace-user report names them",
];

/// Lines of the list that a terminal of this height has room for.
#[must_use]
pub fn list_height(height: u16) -> u16 {
    let (course, books) = heights(height);
    height.saturating_sub(FRAME_HEIGHT + course + books)
}

/// Lines of the course and of the books.
fn heights(height: u16) -> (u16, u16) {
    if height < TALL { (1, 0) } else { ((height / 6).min(12), BOOKS_HEIGHT) }
}

/// Draws everything.
pub fn draw(frame: &mut Frame, screen: &Screen, shot: Option<&Shot>) {
    let area = frame.area();
    if screen.help {
        let lines: Vec<Line> = HELP.iter().map(|line| Line::raw(*line)).collect();
        return frame.render_widget(Paragraph::new(lines), area);
    }
    let Some(shot) = shot else {
        let lines = vec![Line::raw("pagetrace-user top"), Line::raw(screen.note.clone()), Line::raw("q quit")];
        return frame.render_widget(Paragraph::new(lines), area);
    };
    let (course, books) = heights(area.height);
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(course),
        Constraint::Length(1),
        Constraint::Length(books),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ]);
    let [head_area, course_area, axis_area, books_area, tabs_area, list_area, keys_area] = parts.areas(area);
    let paint = Paint { plain: screen.plain };
    frame.render_widget(Paragraph::new(head(shot, screen, paint)), head_area);
    draw_course(frame, shot, paint, course_area, axis_area);
    if books > 0 {
        frame.render_widget(Paragraph::new(book_lines(shot, books_area.width, paint)), books_area);
    }
    frame.render_widget(Paragraph::new(tabs(screen)), tabs_area);
    frame.render_widget(Paragraph::new(list(shot, screen, list_area)), list_area);
    let keys = if screen.note.is_empty() { Line::raw(KEYS) } else { Line::raw(screen.note.clone()).style(BOLD) };
    frame.render_widget(Paragraph::new(keys), keys_area);
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    plain: bool,
}

impl Paint {
    fn of(self, colour: Color) -> Style {
        if self.plain { Style::new() } else { Style::new().fg(colour) }
    }

    /// Of a sum that ought to be zero.
    fn alarm(self, is_zero: bool) -> Style {
        if is_zero { Style::new() } else { self.of(Color::Red).add_modifier(Modifier::BOLD) }
    }
}

fn head<'a>(shot: &Shot, screen: &Screen, paint: Paint) -> Vec<Line<'a>> {
    let change = shot.change_bytes.map_or("change not known".to_owned(), |change| format!("change {}", signed(change)));
    let rss = format!("RSS {}", Bytes(shot.rss_bytes));
    let first = Line::from(vec![
        Span::styled(rss, BOLD),
        Span::raw(format!(" at +{}  {change}  ", span(0, shot.at_ns))),
        Span::raw(format!("{} ({})", shown(&shot.comm), shot.tgid)),
    ]);
    let (file, is_well) = match &shot.file {
        FileState::Complete => ("complete".to_owned(), true),
        FileState::Unfinished => ("unfinished".to_owned(), true),
        FileState::Damaged(why) => (why.clone(), false),
    };
    let mut second = vec![
        Span::styled(format!("lost {}", many(shot.lost, "record")), paint.alarm(shot.lost == 0)),
        Span::raw("  "),
        Span::styled(format!("anomalies {}", shot.anomalies), paint.alarm(shot.anomalies == 0)),
        Span::raw("  "),
        Span::styled(
            format!("unexplained {}", signed(shot.unexplained_bytes)),
            paint.alarm(shot.unexplained_bytes == 0),
        ),
        Span::raw("  "),
        Span::styled(file, paint.alarm(is_well)),
    ];
    if shot.ended {
        second.push(Span::raw("  the process ended"));
    } else if screen.at_ns.is_some() {
        second.push(Span::styled("  in the past", paint.of(Color::Yellow)));
    }
    vec![first, Line::from(second)]
}

/// The highest RSS of each column of a course, which lasts until its next step.
fn columns(steps: &[Step], end_ns: u64, width: u16) -> Vec<u64> {
    let width = u64::from(width).max(1);
    let mut columns = Vec::new();
    let mut steps = steps.iter().peekable();
    let mut last = 0;
    for column in 0..width {
        let until = u128::from(end_ns).saturating_add(1) * u128::from(column + 1) / u128::from(width);
        let mut highest = last;
        while let Some(step) = steps.next_if(|step| u128::from(step.from_ns) < until) {
            highest = highest.max(step.highest_bytes);
            last = step.last_bytes;
        }
        columns.push(highest);
    }
    columns
}

fn draw_course(frame: &mut Frame, shot: &Shot, paint: Paint, area: Rect, axis: Rect) {
    let columns = columns(&shot.course, shot.end_ns, area.width);
    let peak = columns.iter().copied().max().unwrap_or_default();
    let cursor = cursor_column(shot, area.width);
    let bars = columns.iter().enumerate().map(|(at, bytes)| {
        let style = if at == usize::from(cursor) { paint.of(Color::Yellow) } else { paint.of(Color::Cyan) };
        SparklineBar::from(*bytes).style(style)
    });
    frame.render_widget(Sparkline::default().data(bars).max(peak.max(1)), area);
    let text = format!("0 s, at most {}", Bytes(peak));
    // The last column is the cursor's at the end.
    let end = format!("+{:.1} s ", shot.end_ns as f64 / 1e9);
    let gap = usize::from(axis.width).saturating_sub(text.len() + end.len());
    let mut line: Vec<char> = format!("{text}{}{end}", " ".repeat(gap)).chars().collect();
    if let Some(place) = line.get_mut(usize::from(cursor)) {
        *place = '^';
    }
    frame.render_widget(Paragraph::new(line.into_iter().collect::<String>()), axis);
}

fn cursor_column(shot: &Shot, width: u16) -> u16 {
    let last = width.saturating_sub(1);
    let column = u128::from(shot.at_ns) * u128::from(width) / u128::from(shot.end_ns).saturating_add(1);
    u16::try_from(column).unwrap_or(last).min(last)
}

fn book_lines<'a>(shot: &Shot, width: u16, paint: Paint) -> Vec<Line<'a>> {
    let mut lines =
        vec![Line::raw(format!("{:<12}{:>NUMBER_WIDTH$}{:>NUMBER_WIDTH$}", "class", "resident", "change")).style(BOLD)];
    let most = shot.classes.iter().map(|class| class.bytes).max().unwrap_or_default().max(1);
    let room = usize::from(width).saturating_sub(14 + 2 * NUMBER_WIDTH);
    lines.extend(shot.classes.iter().map(|class| {
        let length = u128::from(class.bytes) * room as u128 / u128::from(most);
        let bar = "\u{2588}".repeat(usize::try_from(length).unwrap_or(room).min(room));
        let change = class.change_bytes.map_or("?".to_owned(), signed);
        let numbers = format!("{:<12}{:>NUMBER_WIDTH$}{change:>NUMBER_WIDTH$}  ", class.class, Bytes(class.bytes));
        Line::from(vec![Span::raw(numbers), Span::styled(bar, paint.of(Color::Green))])
    }));
    let unexplained = format!("{:<12}{:>NUMBER_WIDTH$}", "unexplained", signed(shot.unexplained_bytes));
    lines.push(Line::raw(unexplained).style(paint.alarm(shot.unexplained_bytes == 0)));
    lines
}

fn tabs<'a>(screen: &Screen) -> Line<'a> {
    let mut spans = Vec::new();
    for (at, by) in LISTS.iter().enumerate() {
        let word = match by {
            By::Range => "ranges",
            By::Stack => "stacks",
            By::Thread => "threads",
            By::File => "files",
            By::Class | By::Age => "",
        };
        let style = if at == screen.list { REVERSED } else { Style::new() };
        spans.push(Span::styled(format!(" {} {word} ", at + 1), style));
    }
    Line::from(spans)
}

fn list<'a>(shot: &Shot, screen: &Screen, area: Rect) -> Vec<Line<'a>> {
    // Beside the numbers there is room for the age where the terminal is wide.
    let has_age = area.width >= 60;
    let age = |text: &str| if has_age { format!("{text:>12}") } else { String::new() };
    let title = format!("{:>NUMBER_WIDTH$}{:>NUMBER_WIDTH$}{}  by", "resident", "change", age("median age"));
    let mut lines = vec![Line::raw(title).style(BOLD)];
    let Some(list) = shot.lists.get(screen.list) else { return lines };
    let room = usize::from(area.height).saturating_sub(1);
    // The list may have become shorter since it was scrolled.
    let above = screen.scrolled.min(list.lines.len().saturating_sub(room.max(1)));
    lines.extend(list.lines.iter().skip(above).take(room).map(|line| {
        let change = line.change_bytes.map_or("?".to_owned(), signed);
        let median = line.median_age_ns.map_or("-".to_owned(), |ns| format!("{:.1} s", ns as f64 / 1e9));
        let (bytes, median, what) = (Bytes(line.bytes), age(&median), what(line));
        Line::raw(format!("{bytes:>NUMBER_WIDTH$}{change:>NUMBER_WIDTH$}{median}  {what}"))
    }));
    lines
}

/// A line's name; of a stack, its functions from the innermost on.
fn what(line: &rss::Line) -> String {
    if line.frames.is_empty() {
        return shown(&line.what);
    }
    let frames = line.frames.iter().rev().map(|frame| match (frame.file.rsplit('/').next(), frame.line) {
        (Some(file), number @ 1..) => format!("{} {file}:{number}", frame.name),
        _ => frame.name.clone(),
    });
    shown(&frames.collect::<Vec<_>>().join(" < "))
}
