//! The screen at work: keys in, shots in, frames out, until a key ends it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::child::Recorder;
use super::reading::{Reading, Said, Wish};
use super::screen::{Act, Key, Screen};
use super::shot::Shot;
use super::{Subject, view};
use crate::failure::{Code, Failure};
use crate::input;

/// Between two looks at what the reading says, while no key comes.
const TICK: Duration = Duration::from_millis(50);

/// Shows a file or a process until a key ends it.
///
/// # Errors
/// Without a terminal; when the file cannot be read, or the process not be recorded.
pub fn run(subject: &Subject) -> Result<Code, Failure> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        let fix = match subject {
            Subject::File(path) => {
                let path = path.display();
                format!("pagetrace-user report {path}   (or rss {path} --by range)")
            }
            Subject::Process { pid, .. } => format!("record it: sudo pagetrace-user --pid {pid}"),
        };
        let why = "standard input and output are not both a terminal";
        return Err(Failure::new(Code::Usage, "cannot show a screen", why, fix));
    }
    match subject {
        Subject::File(path) => {
            let mut source = Source::Path(path.clone());
            show(&mut source).map(|()| Code::Complete)
        }
        Subject::Process { pid, directory } => {
            let mut source = Source::Recorder(Recorder::start(*pid, directory.as_deref())?);
            let shown = show(&mut source);
            let Source::Recorder(recorder) = source else { return shown.map(|()| Code::Complete) };
            let (code, kept) = recorder.end()?;
            shown?;
            if let Some(path) = kept {
                // Nobody is left to be told when stderr is gone.
                let _ = writeln!(io::stderr().lock(), "read it: pagetrace-user report {}", path.display());
            }
            Ok(code)
        }
    }
}

/// Where the trace comes from.
enum Source {
    Path(PathBuf),
    Recorder(Recorder),
}

impl Source {
    /// The file, once there is something to read in it.
    fn file(&self) -> Option<PathBuf> {
        match self {
            Source::Path(path) => Some(path.clone()),
            // Until its header is there it is no trace.
            Source::Recorder(recorder) => recorder.file().filter(|path| input::open(path).is_ok()),
        }
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Source::Path(_) => false,
            Source::Recorder(recorder) => recorder.has_ended(),
        }
    }
}

/// The terminal, put back at its end.
struct Taken(DefaultTerminal);

impl Drop for Taken {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn cannot_show(error: &io::Error) -> Failure {
    Failure::new(Code::Failed, "cannot show a screen", error.to_string(), "")
}

fn show(source: &mut Source) -> Result<(), Failure> {
    let stop = stop_at_signals().map_err(|error| cannot_show(&error))?;
    let terminal = ratatui::try_init();
    // Made before the error is looked at: a part of the way may have been gone.
    let mut terminal = match terminal {
        Ok(terminal) => Taken(terminal),
        Err(error) => {
            ratatui::restore();
            return Err(cannot_show(&error));
        }
    };
    let mut session = Session {
        screen: Screen { plain: std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty()), ..Screen::default() },
        shot: None,
        talk: None,
        number: 0,
    };
    session.screen.note = "waiting for the recording to begin".to_owned();
    let shown = session.run(&mut terminal.0, source, &stop);
    if let Some(talk) = &session.talk {
        talk.newest.store(u64::MAX, Ordering::Relaxed);
    }
    shown
}

/// Becomes true when a signal asks for the end.
fn stop_at_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut hang_up, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = term.recv() => {}, _ = hang_up.recv() => {}, _ = interrupt.recv() => {} }
        });
        set.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

/// The screen's end of the talk with the thread that reads.
struct Talk {
    wishes: Sender<Wish>,
    newest: Arc<AtomicU64>,
    said: Receiver<Said>,
}

impl Talk {
    fn with_reader_of(path: PathBuf) -> Talk {
        let (wishes, of_screen) = channel();
        let (say, said) = channel();
        let newest = Arc::new(AtomicU64::new(0));
        let reading = Reading { wishes: of_screen, newest: Arc::clone(&newest), say };
        std::thread::spawn(move || reading.run(&path));
        Talk { wishes, newest, said }
    }
}

struct Session {
    screen: Screen,
    shot: Option<Shot>,
    talk: Option<Talk>,
    /// Of the last wish.
    number: u64,
}

impl Session {
    fn run(&mut self, terminal: &mut DefaultTerminal, source: &mut Source, stop: &AtomicBool) -> Result<(), Failure> {
        let mut is_new = true;
        while !stop.load(Ordering::Relaxed) {
            if self.talk.is_none() {
                match source.file() {
                    Some(path) => self.talk = Some(Talk::with_reader_of(path)),
                    // What it has to say comes with its end.
                    None if source.has_ended() => return Ok(()),
                    None => {}
                }
            }
            is_new |= self.listen()?;
            if is_new {
                terminal
                    .draw(|frame| view::draw(frame, &self.screen, self.shot.as_ref()))
                    .map_err(|error| cannot_show(&error))?;
            }
            is_new = false;
            if event::poll(TICK).map_err(|error| cannot_show(&error))? {
                is_new = true;
                let event = event::read().map_err(|error| cannot_show(&error))?;
                let Some(key) = key_of(&event) else { continue };
                let page = terminal.size().map_or(1, |size| view::list_height(size.height));
                match self.screen.press(key, self.shot.as_ref(), usize::from(page)) {
                    Act::Nothing => {}
                    Act::Quit => return Ok(()),
                    Act::Show(at_ns) => self.wish(at_ns),
                }
            }
        }
        Ok(())
    }

    fn wish(&mut self, at_ns: Option<u64>) {
        let Some(talk) = &self.talk else { return };
        self.number = self.number.saturating_add(1);
        talk.newest.store(self.number, Ordering::Relaxed);
        self.screen.note = "reading".to_owned();
        // A thread that has failed has said so.
        let _ = talk.wishes.send(Wish { number: self.number, at_ns });
    }

    /// Takes what the thread has said; whether that changes the screen.
    fn listen(&mut self) -> Result<bool, Failure> {
        let Some(talk) = &self.talk else { return Ok(false) };
        let mut is_new = false;
        loop {
            match talk.said.try_recv() {
                Ok(Said::Shot(number, shot)) if number == self.number => {
                    self.shot = Some(*shot);
                    self.screen.note.clear();
                }
                // Of a moment that is not wanted any more.
                Ok(Said::Shot(..)) => continue,
                Ok(Said::Progress(note)) => self.screen.note = note,
                Ok(Said::Failed(failure)) => return Err(failure),
                Err(TryRecvError::Empty) => return Ok(is_new),
                Err(TryRecvError::Disconnected) => {
                    let why = "the thread that reads it has ended";
                    return Err(Failure::new(Code::Failed, "cannot go on with the trace", why, ""));
                }
            }
            is_new = true;
        }
    }
}

/// What a key means here.
fn key_of(event: &Event) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = event else {
        return None;
    };
    let control = modifiers.contains(KeyModifiers::CONTROL);
    Some(match code {
        KeyCode::Char('c' | 'd') if control => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Left | KeyCode::Char('h') => Key::Left,
        KeyCode::Right | KeyCode::Char('l') => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Up | KeyCode::Char('k' | '-') => Key::Up,
        KeyCode::Down | KeyCode::Char('j' | '+') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Key::PageDown,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Char(number @ '1'..='4') => Key::List(usize::try_from(number.to_digit(10)?).ok()?),
        KeyCode::Char('?') => Key::Help,
        _ => return None,
    })
}
