//! The report as a page: what it draws, that names cannot break out of it, and that a browser shows it.

use std::fs;
use std::path::Path;

use pagetrace_user::event::{Body, Event, FileId, Function, Header, Layer, Place, StackId, StackOf};
use pagetrace_user::format::{Encoder, Reader};
use pagetrace_user::html::{Page, page};
use pagetrace_user::units::{Nanos, Tid};

use crate::browser::browsed;
use crate::{arenas, fixture, program, reported, stacked};

pub fn paged(bytes: &[u8]) -> Page {
    page(&mut Reader::new(bytes).unwrap(), 100).unwrap()
}

/// What is drawn, a row a line.
fn drawn(page: &Page) -> String {
    let json = serde_json::to_string(&page.drawn).unwrap();
    json.replace("],[", "],\n[").replace(",{", ",\n{").replace(",\"", ",\n\"")
}

#[test]
fn what_the_page_of_everything_draws() {
    insta::assert_snapshot!(drawn(&paged(&fixture::whole(&fixture::eventful()))));
}

#[test]
fn what_the_page_of_stacks_draws() {
    insta::assert_snapshot!(drawn(&paged(&fixture::whole(&stacked::trace()))));
}

#[test]
fn what_the_page_of_a_page_heap_draws() {
    insta::assert_snapshot!(drawn(&paged(&fixture::whole(&fixture::page_heap()))));
}

/// What came back is told of a process that has ended, too, with the names that stand behind its end in the file.
#[test]
fn the_reports_tell_what_was_there_before_the_process_ended() {
    let mut events = stacked::trace();
    let last = events.iter().position(|event| matches!(event.body, Body::BuildId { .. })).unwrap();
    let at = events.get(last).unwrap().clone();
    for body in [Body::MmGone, Body::Exit { code: 0, signal: 0 }] {
        events.insert(last, Event { body, ..at.clone() });
    }
    let bytes = fixture::whole(&events);
    let text = reported(&bytes).text();
    assert!(text.contains("khugepaged brought back") && text.contains("src/cache.c:80"), "{text}");
    let page = paged(&bytes);
    let words = ["brought back by <bdi>khugepaged</bdi>", "max_ptes_none", "<bdi>main"];
    assert!(words.iter().all(|word| page.html.contains(word)), "{}", page.html);
    let resident = page.drawn.flames.iter().find(|flame| flame.of == "resident").unwrap();
    assert_eq!(resident.total, 5 * 4096);
    let at_end: u64 =
        (page.drawn.heat.blocks.iter().flat_map(|block| &block.rows)).map(|row| row.last().unwrap()[0]).sum();
    assert_eq!(at_end, 5);
}

#[test]
fn the_same_trace_gives_the_same_page_which_needs_nothing_else() {
    for events in [
        fixture::eventful(),
        fixture::short_life(),
        stacked::trace(),
        fixture::page_heap(),
        fixture::objects(),
        arenas::trace(),
    ] {
        let bytes = fixture::whole(&events);
        let html = paged(&bytes).html;
        assert_eq!(html, paged(&bytes).html);
        let lower = html.replace("http://www.w3.org/2000/svg", "").to_lowercase();
        for word in
            ["http:", "https:", "src=", "@import", "@font-face", "fetch(", "<iframe", "<object", "<embed", "<base"]
        {
            assert!(!lower.contains(word), "{word}");
        }
        for place in lower.match_indices("url(") {
            assert!(lower.get(place.0..).unwrap().starts_with("url(#"), "{place:?}");
        }
    }
}

const HOSTILE: [&str; 4] = [
    "</script><script>window.broken = 1; throw 1</script>",
    "\"'><img alt=x onerror=\"window.broken = 1\"><!-- <script>",
    "a\u{202e}b\u{0}c\u{2028}d{{ title }}{% raw %}",
    "]]></style></title></textarea>&lt;b&gt;",
];

/// A trace in which every name is hostile.
pub fn hostile() -> Vec<u8> {
    let name = |at: usize| HOSTILE.get(at % HOSTILE.len()).unwrap().to_string();
    let probe = |at: usize| pagetrace_user::event::Probe { name: name(at), attached: false, reason: name(at + 1) };
    let header = Header {
        comm: name(0),
        exe: name(1),
        cmdline: HOSTILE.map(str::to_owned).to_vec(),
        recorder: name(2),
        kernel: name(0),
        boot_id: name(1),
        probes: vec![probe(0), probe(1)],
        notes: HOSTILE.map(str::to_owned).to_vec(),
        object_period_bytes: Some(0),
        ..fixture::header()
    };
    let mut events = stacked::trace();
    events.extend(fixture::objects());
    // What was read of arenas, and not the pages that it is about.
    events.extend(arenas::trace().into_iter().filter(|event| event.body.layer() == Layer::Heap));
    for (at, event) in events.iter_mut().enumerate() {
        event.ts = Nanos(fixture::T0 + at as u64 * 1_000_000);
        if let Some(actor) = &mut event.actor {
            actor.comm = pagetrace_user::units::Comm::of("</script><b>");
        }
        match &mut event.body {
            Body::MapFile { path, .. } | Body::Library { path, .. } => *path = name(at),
            Body::ArenaReading { name: allocator, path, .. } => (*allocator, *path) = (name(at), name(at + 1)),
            Body::Symbol { functions, .. } => {
                for function in functions {
                    (function.name, function.file) = (name(at), name(at + 1));
                }
            }
            _ => {}
        }
    }
    let last = events.last().unwrap().clone();
    let place = Place::File { file: FileId(1), offset: 0x400 };
    let functions = vec![Function { name: name(3), file: name(0), line: 7 }];
    events.push(Event { tid: Tid(0), body: Body::Symbol { place, functions }, ..last.clone() });
    events.push(Event { body: Body::Stack { of: StackOf::Object, id: StackId(3) }, ..last });
    let mut encoder = Encoder::new(&header);
    let mut bytes = Vec::new();
    for event in &events {
        encoder.push(event);
        bytes.extend_from_slice(&encoder.take_ready().unwrap_or_default());
    }
    bytes.extend_from_slice(&encoder.flush());
    bytes.extend_from_slice(&encoder.finish(&fixture::trailer(&events)));
    bytes
}

#[test]
fn names_cannot_break_out_of_the_page() {
    let page = paged(&hostile());
    let lower = page.html.to_lowercase();
    for (word, times) in [("<script", 2), ("</script", 2), ("<style", 1), ("</style", 1), ("</title", 1), ("<!--", 0)] {
        assert_eq!(lower.matches(word).count(), times, "{word}");
    }
    for word in ["<img", "<b>\"", "\u{202e}", "\u{2028}", "\u{0}", "</textarea"] {
        assert!(!lower.contains(word), "{word:?}");
    }
    assert!(lower.contains("window.broken = 1; throw 1"), "it is told all the same");
    let data = page.html.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data, serde_json::to_value(&page.drawn).unwrap());
}

/// What a reader of a page does with it: looks at a moment, zooms into a time, into a stack and into addresses, searches.
const READER: &str = r#"<script>{
  const all = selector => [...document.querySelectorAll(selector)];
  const svg = document.querySelector('#timeline svg');
  const act = (target, type, part) => {
    const box = target.getBoundingClientRect();
    const [clientX, clientY] = [box.left + 62 + (box.width - 72) * part, box.top + 5];
    target.dispatchEvent(new PointerEvent(type, { clientX, clientY, pointerType: 'mouse', bubbles: true }));
  };
  act(svg, 'pointermove', 0.5);
  document.body.dataset.moment = document.getElementById('tip').textContent;
  act(svg, 'pointerdown', 0.2); act(svg, 'pointermove', 0.6); act(svg, 'pointerup', 0.6);
  const whole = document.querySelector('#timeline button');
  document.body.dataset.zoomed = String(!whole.disabled);
  whole.click();
  for (const tab of all('#flames button[aria-pressed]')) tab.click();
  for (const tab of all('#flames button[aria-pressed]').slice(0, 1)) tab.click();
  for (const frame of all('#flames [data-node]').slice(1, 2)) { act(frame, 'pointermove', 0); frame.click(); }
  for (const input of all('#flames input')) { input.value = 'FILL'; input.dispatchEvent(new Event('input')); }
  for (const canvas of all('#heat canvas')) { act(canvas, 'pointermove', 0.9); canvas.click(); }
}</script>"#;

#[test]
fn a_browser_draws_the_page_without_a_complaint() {
    let (level, mark, frame, map) = ("class=\"level\"", "class=\"mark\"", "data-node=", "<canvas");
    for (name, bytes, there) in [
        ("everything", fixture::whole(&fixture::eventful()), vec![level, mark, map]),
        ("stacks", fixture::whole(&stacked::trace()), vec![level, mark, frame, map]),
        ("a page heap", fixture::whole(&fixture::page_heap()), vec![mark]),
        ("hostile names", hostile(), vec![level, mark, frame, map]),
    ] {
        let html = paged(&bytes).html;
        let (dom, console) = browsed("page.html", &html.replace("</body>", &format!("{READER}</body>")));
        assert_eq!(console, "", "{name}");
        assert!(dom.contains("data-drawn=\"yes\""), "{name}: the script did not reach its end: {dom}");
        for element in there {
            assert!(dom.contains(element), "{name}: no {element}: {dom}");
        }
        assert!(!dom.contains("<img"), "{name}");
        assert!(dom.contains("data-zoomed=\"true\""), "{name}");
        if name == "stacks" {
            assert!(dom.contains("data-moment=\"+1.49"), "{dom}");
            assert!(dom.contains("RSS20.0 KiBanon20.0 KiB"), "{dom}");
            // Three of five pages were filled by it.
            assert!(dom.contains("class=\"hit\"") && dom.contains("found 60.00 %"), "{dom}");
        }
    }
}

#[test]
fn the_program_writes_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let whole = fixture::whole(&fixture::eventful());
    fs::write(path("whole.pgt"), &whole).unwrap();
    fs::write(path("cut.pgt"), whole.get(..whole.len() - 9).unwrap()).unwrap();
    let (whole, cut, html) = (path("whole.pgt"), path("cut.pgt"), path("x.html"));
    for (words, code) in [
        (vec!["report", &whole, "-o", &html], 0),
        (vec!["report", &whole, "-o", &html], 1),
        (vec!["report", &cut, "-o", &html, "--force"], 7),
        (vec!["report", &whole, &cut, "-o", &path("y.html")], 2),
        (vec!["report", &whole, "-o", &path("y.svg")], 2),
        (vec!["report", &whole, "-o", &path("y.html"), "--json"], 2),
        (vec!["report", &path("absent.pgt"), "-o", &path("y.html")], 1),
    ] {
        let output = program::run(&words);
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    assert!(fs::read_to_string(&html).unwrap().contains("damaged at byte"), "the last one that was written");
    assert!(!Path::new(&path("y.html")).exists());
}
