//! Addresses over time: cells that add up to the ledger of their moment, and pictures that a browser sees alike.

use std::fs;
use std::path::Path;

use pagetrace_user::event::{Body, Call, Event, HeapAct, HeapRun, HeapState, Member, Span, SpanKind, Start, Why};
use pagetrace_user::format::go::GoReader;
use pagetrace_user::format::{Reader, Trace};
use pagetrace_user::heat::{Cell, Heat};
use pagetrace_user::picture;
use pagetrace_user::replay::{Class, HeapPage, State, Window, fold_within};
use pagetrace_user::units::{Bytes, HeapPages, Nanos, PAGE_BYTES, Pages, Pfn, Pid};
use serde_json::Value;

use crate::browser::browsed;
use crate::fixture::{self, Script, frame, pages};
use crate::{page, program, stacked};

const ARENA: u64 = 0xc0_0000_0000;

/// Of 64 pages of a heap all become resident; half of them are freed, then given back, and khugepaged brings eight again.
fn go_heap() -> Vec<Event> {
    let mut s = Script::default();
    let run = |act, page: u64, pages, span| {
        let addr = ARENA + page * 8192;
        Body::Heap(HeapRun { act, addr, pages: HeapPages(pages), p: Some(0), goid: Some(1), span })
    };
    let in_use = Some(Span { kind: SpanKind::Heap, class: 0 });
    let upper = ARENA + 32 * PAGE_BYTES;
    s.own(Body::Start { how: Start::Running, parent: Pid(1) });
    s.own(Body::HeapReading { why: Why::Start });
    s.own(Body::BaselineHeap { addr: ARENA, pages: HeapPages(16), state: HeapState::Heap });
    s.own(Body::BaselineHeap { addr: upper, pages: HeapPages(496), state: HeapState::GivenBack });
    let (began, call) = (s.began(), Call::Mmap);
    s.main(Body::Map { range: pages(ARENA, 1024), prot: 3, flags: 0x22, file: None, offset: Bytes(0), call, began });
    s.main(frame(ARENA, 0x1000, 5, 32));
    s.main(run(HeapAct::Alloc, 16, 16, in_use));
    s.main(frame(upper, 0x2000, 5, 64));
    s.main(run(HeapAct::Free, 16, 16, in_use));
    s.main(run(HeapAct::Scav, 16, 16, None));
    s.main(Body::Free { pfn: Pfn(0x2000), order: 5 });
    s.main(fixture::rss(Member::Anon, 32));
    let (began, call) = (s.began(), Call::Madvise);
    s.main(Body::Advise { range: pages(upper, 32), advice: 4, call, began });
    s.other("khugepaged", 40, frame(upper, 0x3000, 3, 40));
    s.events
}

fn heat_of(events: &[Event], window: Window) -> Heat {
    Heat::of(&mut Reader::new(fixture::whole(events).as_slice()).unwrap(), window).unwrap().0
}

/// The state when `age` after the first event has passed, just before the process's end at most.
fn state_at(events: &[Event], age: Option<Nanos>) -> State {
    let bytes = fixture::whole(events);
    let window = Window { since: None, at: age };
    fold_within(&mut Reader::new(bytes.as_slice()).unwrap(), window, |_, _| {}).unwrap().0
}

fn number(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn the_cells_of_every_moment_are_what_the_ledger_says_then() {
    for events in [fixture::eventful(), stacked::trace(), go_heap(), fixture::short_life()] {
        let json: Value = serde_json::from_str(&heat_of(&events, Window::default()).json()).unwrap();
        let columns = json["columns"].as_array().unwrap();
        assert!(columns.len() > 20, "{}", columns.len());
        let mut sums = vec![[0_i64; 4]; columns.len()];
        let keys = ["resident_bytes", "live_bytes", "free_bytes", "given_back_bytes"];
        for row in json["blocks"].as_array().unwrap().iter().flat_map(|block| block["rows"].as_array().unwrap()) {
            let mut at = 0;
            for run in row.as_array().unwrap() {
                for _ in 0..number(run, "columns") {
                    keys.iter().zip(&mut sums[at]).for_each(|(key, sum)| *sum += number(run, key));
                    at += 1;
                }
            }
            assert_eq!(at, columns.len());
        }
        let ended = events.iter().any(|event| matches!(event.body, Body::Exit { .. }));
        for (at, (column, sum)) in columns.iter().zip(sums).enumerate() {
            assert_eq!(keys.map(|key| number(column, key)), sum, "the rows, at {column}");
            let is_last = at + 1 == columns.len();
            // What happens at the very end of a column's time is of the next one.
            let before = Nanos(number(column, "at_ns") as u64 - 1);
            let state = state_at(&events, (ended || !is_last).then_some(before));
            let ledger = state.ledger();
            let placed: u64 = Class::ALL.iter().map(|class| ledger.placed(*class).0).sum();
            let bytes = |pages: u64| (pages * PAGE_BYTES) as i64;
            let in_use = [HeapPage::Objects, HeapPage::Stacks, HeapPage::Other].map(|what| ledger.in_heap(what).0);
            assert_eq!(sum[0], bytes(placed), "{column}");
            assert_eq!(sum[1], bytes(in_use.iter().sum()), "{column}");
            assert_eq!(sum[2], bytes(ledger.in_heap(HeapPage::Free).0), "{column}");
            assert_eq!(number(column, "rss_bytes"), ledger.rss().bytes().0 as i64, "{column}");
            assert_eq!(number(column, "rss_bytes"), sum[0] + number(column, "elsewhere_bytes"), "{column}");
        }
    }
}

#[test]
fn pages_of_a_heap_are_live_then_free_then_given_back_and_some_come_again() {
    let events = go_heap();
    let after = |is: fn(&Body) -> bool| {
        let last = events.iter().rposition(|event| is(&event.body)).unwrap();
        let at = events[last].ts.since(events[0].ts);
        let heat = heat_of(&events, Window { since: None, at: Some(at) });
        assert_eq!(heat.map.moments.last().unwrap().at, at);
        heat.map.moments.last().unwrap().sum
    };
    let cell = |resident, live, free, given_back| Cell { resident, live, free, given_back };
    assert_eq!(after(|body| matches!(body, Body::Map { .. })), cell(0, 0, 0, 0));
    assert_eq!(after(|body| matches!(body, Body::Frame { order: 5, .. })), cell(64, 64, 0, 0));
    assert_eq!(after(|body| matches!(body, Body::Heap(run) if run.act == HeapAct::Free)), cell(64, 32, 32, 0));
    assert_eq!(after(|body| matches!(body, Body::Advise { .. })), cell(32, 32, 0, 32));
    assert_eq!(after(|body| matches!(body, Body::Frame { order: 3, .. })), cell(40, 32, 0, 24));
}

/// The map of a part of a trace is that part of the map, and its times are those of the trace.
#[test]
fn a_part_of_a_trace() {
    let events = fixture::eventful();
    let whole = events.last().unwrap().ts.since(events[0].ts);
    let (since, at) = (Nanos(10_000_000), Nanos(30_000_000));
    let part = heat_of(&events, Window { since: Some(since), at: Some(at) });
    assert_eq!((part.map.from, part.map.moments.last().unwrap().at), (since, Nanos(20_000_000)));
    let until = heat_of(&events, Window { since: None, at: Some(at) });
    assert_eq!(part.map.moments.last().unwrap().sum, until.map.moments.last().unwrap().sum);
    let first = state_at(&events, Some(Nanos(since.0 + part.map.width.0 - 1)));
    assert_eq!(part.map.moments[0].sum.resident, first.resident().len().0);
    let none = heat_of(&events, Window { since: Some(Nanos(whole.0 + 1)), at: None });
    assert_eq!(none.map.moments.len(), 1, "the end alone");
    assert_eq!(none.map.moments[0].sum.resident, state_at(&events, None).resident().len().0);
}

/// A Go runtime's own trace tells of its heap alone.
#[test]
fn the_map_of_a_go_runtimes_trace() {
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/go1.21-2P.pt")).unwrap();
    let heat = Heat::of(&mut GoReader::new(bytes.as_slice()).unwrap(), Window::default()).unwrap().0;
    let mut reader = GoReader::new(bytes.as_slice()).unwrap();
    let mut state = State::new();
    while let Some(event) = reader.next_event().unwrap() {
        state.apply(event);
    }
    let last = heat.map.moments.last().unwrap();
    assert_eq!(Pages(last.sum.live).bytes(), state.heap().in_use());
    assert_eq!(Pages(last.sum.given_back).bytes().0, state.heap().given_back().0 - state.heap().never_used().0);
    assert_eq!((heat.has_rss, last.sum.resident, last.levels), (false, 0, [Pages(0); 3]));
    assert!(last.sum.live > 0 && heat.text(None, 80).contains("page trace of the Go runtime"));
}

#[test]
fn the_map_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for (name, events) in [("stacks.pgt", stacked::trace()), ("heap.pgt", go_heap())] {
        let path = dir.path().join(name).display().to_string();
        fs::write(&path, fixture::whole(&events)).unwrap();
        let output = program::run(&["heat", &path]);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
        let plain = String::from_utf8(output.stdout).unwrap();
        let coloured = heat_of(&events, Window::default()).text(None, 100);
        assert!(coloured.contains("\u{1b}[") && anstream::adapter::strip_str(&coloured).to_string() == plain);
        assert!(plain.lines().all(|line| line.chars().count() <= 100), "{plain}");
        text += &plain;
    }
    insta::assert_snapshot!(text);
}

/// What compares a drawing with its picture: for each frame of a flame graph or cell of a map the colour near its upper left
/// corner, where no text is.
const COMPARE: &str = r#"<body><script>{
  const dom = new DOMParser().parseFromString(SVG, 'image/svg+xml'), seen = document.documentElement.dataset;
  const root = dom.documentElement, wide = Number(root.getAttribute('viewBox').split(' ')[2]);
  const part = (rect, name) => { const text = rect.getAttribute(name); return text.endsWith('%') ? parseFloat(text) / 100 * (wide - 20) : Number(text); };
  const picture = new Image();
  picture.onload = () => {
    const canvas = document.createElement('canvas'), pen = canvas.getContext('2d', { willReadFrequently: true }), scale = picture.width / wide;
    [canvas.width, canvas.height] = [picture.width, picture.height];
    pen.drawImage(picture, 0, 0);
    let cells = 0, other = [];
    for (const rect of dom.querySelectorAll('g > rect')) {
      const [x, y] = [part(rect, 'x') + (root.querySelector('#frames') ? 10 : 0) + 1, part(rect, 'y') + 1.5];
      const colour = [...pen.getImageData(x * scale, y * scale, 1, 1).data].slice(0, 3);
      pen.fillStyle = rect.getAttribute('fill');
      pen.fillRect(0, 0, 1, 1);
      const wanted = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
      cells++;
      if (colour.some((value, at) => Math.abs(value - wanted[at]) > 1)) other.push([x, y, colour, wanted]);
    }
    seen.size = `${picture.width}x${picture.height} of ${wide}x${root.getAttribute('height')}`;
    seen.cells = String(cells);
    seen.other = JSON.stringify(other.slice(0, 5));
    seen.errors = String(dom.querySelectorAll('parsererror').length);
  };
  picture.onerror = () => { seen.size = 'not decoded'; };
  picture.src = PNG;
}</script></body>"#;

/// What a browser says of a drawing and the picture that was made of it.
pub fn compared(svg: &str, png: &[u8]) -> String {
    let data: String = png.iter().map(|byte| format!("%{byte:02x}")).collect();
    // In a script no element may end.
    let svg = serde_json::to_string(svg).unwrap().replace('<', "\\u003c");
    let (dom, console) = browsed(
        "compare.html",
        &COMPARE.replace("SVG,", &format!("{svg},")).replace("= PNG", &format!("= 'data:image/png,{data}'")),
    );
    assert_eq!(console, "");
    dom.split("<head>").next().unwrap().to_owned()
}

#[test]
fn a_browser_sees_in_the_picture_what_is_in_the_drawing() {
    for (events, size, cells) in
        [(fixture::eventful(), "2000x968 of 1000x484", 27), (go_heap(), "2000x624 of 1000x312", 7)]
    {
        let svg = heat_of(&events, Window::default()).svg(None).unwrap();
        let seen = compared(&svg, &picture::png(&svg).unwrap());
        for (name, value) in [("size", size), ("cells", &cells.to_string()), ("other", "[]"), ("errors", "0")] {
            assert!(seen.contains(&format!("data-{name}=\"{value}\"")), "{name}: {seen}");
        }
    }
}

#[test]
fn names_cannot_break_out_of_a_map() {
    let heat = Heat::of(&mut Reader::new(page::hostile().as_slice()).unwrap(), Window::default()).unwrap().0;
    let svg = heat.svg(Some(100)).unwrap();
    let (dom, console) = browsed("heat.svg", &svg);
    assert_eq!(console, "");
    for (word, times) in [("<svg", 1), ("<script", 0), ("<img", 0), ("parsererror", 0), ("</svg>", 1)] {
        assert_eq!(dom.matches(word).count(), times, "{word}: {dom}");
    }
    assert!(svg.contains("window.broken = 1; throw 1"), "it is told all the same: {svg}");
    assert!(!heat.text(None, 100).contains('\u{0}'));
    assert!(picture::png(&svg).is_ok());
}

#[test]
fn the_program_draws_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let whole = fixture::whole(&fixture::eventful());
    fs::write(path("whole.pgt"), &whole).unwrap();
    fs::write(path("cut.pgt"), whole.get(..whole.len() - 9).unwrap()).unwrap();
    let (whole, cut, svg, png) = (path("whole.pgt"), path("cut.pgt"), path("x.svg"), path("x.png"));
    for (words, code, says) in [
        (vec!["heat", &whole, "-o", &svg], 0, ""),
        (vec!["heat", &whole, "-o", &png, "--top", "2", "--since", "10ms", "--at", "30ms"], 0, ""),
        (vec!["heat", &whole, "-o", &svg], 1, "--force"),
        (vec!["heat", &cut, "-o", &svg, "--force"], 7, "damaged"),
        (vec!["heat", &whole, &cut, "-o", &path("y.svg")], 2, "a picture is of one trace"),
        (vec!["heat", &whole, "-o", &path("y.jpg")], 2, "end the name with one of: .svg, .png"),
        (vec!["heat", &whole, "-o", &path("y")], 2, "end the name with one of: .svg, .png"),
        (vec!["heat", &whole, "-o", &path("y.svg"), "--json"], 2, "--json"),
        (vec!["heat", &path("absent.pgt"), "-o", &path("y.svg")], 1, "cannot open"),
        (vec!["export", &whole, "-o", &path("y.jpg")], 2, ".svg, .png"),
    ] {
        let output = program::run(&words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty() && stderr.contains(says), "{words:?}: {stderr}");
    }
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg "));
    assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(dir.path().read_dir().unwrap().count(), 4, "and nothing is left behind");
}
