//! Flame graphs as pictures, opened by a browser from a file, as their reader would.

use pagetrace_user::export::Form;
use pagetrace_user::stacks::Of;

use super::{exported, exported_file};
use crate::browser::browsed;
use crate::{heat, page, stacked};

/// What a reader of a flame graph does with it: looks at a frame, zooms into it and out again, and searches. Each step
/// leaves what is seen then as an attribute of the document.
const READER: &str = r##"<script><![CDATA[
  addEventListener('load', () => setTimeout(() => {
    const all = selector => [...document.querySelectorAll(selector)];
    const frame = name => all('#frames > g').find(frame => frame.querySelector('title').textContent.startsWith(name));
    const width = name => frame(name).querySelector('rect').getAttribute('width');
    const act = (target, type) => target.dispatchEvent(new MouseEvent(type, { bubbles: true }));
    const seen = (step, text) => document.documentElement.setAttribute('data-' + step, text);
    window.prompt = () => 'fill';
    seen('before', width('main') + ' ' + width('put'));
    act(frame('put').querySelector('rect'), 'mouseover');
    seen('told', document.getElementById('details').textContent);
    act(frame('put').querySelector('rect'), 'click');
    seen('zoomed', width('main') + ' ' + width('put') + ' ' + all('#frames > .hide').length);
    act(document.getElementById('unzoom'), 'click');
    seen('whole', width('main') + ' ' + width('put') + ' ' + all('#frames > .hide').length);
    act(document.getElementById('search'), 'click');
    seen('found', document.getElementById('matched').textContent);
  }, 100));
]]></script></svg>"##;

/// A flame graph with its reader.
fn read(svg: &[u8]) -> String {
    let svg = std::str::from_utf8(svg).unwrap().trim_end();
    svg.strip_suffix("</svg>").unwrap().to_owned() + READER
}

#[test]
fn a_browser_zooms_and_searches_a_flame_graph() {
    let (svg, _) = exported(&stacked::trace(), Form::Flame, Of::Resident);
    let (dom, console) = browsed("flame.svg", &read(&svg));
    assert_eq!(console, "");
    for (step, seen) in [
        ("before", "60.0000% 60.0000%"),
        ("told", "Function: put (12,288 bytes, 60.00%)"),
        // Below it stands its caller as wide as it is; three frames are beside it.
        ("zoomed", "100.0% 100.0000% 3"),
        ("whole", "60.0000% 60.0000% 0"),
        ("found", "Matched: 60.0%"),
    ] {
        assert!(dom.contains(&format!("data-{step}=\"{seen}\"")), "{step}: {}", dom.get(..1000).unwrap());
    }
}

#[test]
fn a_browser_sees_in_the_picture_what_is_in_the_flame_graph() {
    let [svg, png] = [Form::Flame, Form::FlamePng].map(|form| exported(&stacked::trace(), form, Of::Resident).0);
    let svg = std::str::from_utf8(&svg).unwrap();
    let (seen, frames) = (heat::compared(svg, &png), svg.matches("fg:w=").count());
    assert!(frames > 5, "{frames}");
    for (name, value) in
        [("size", "2400x300 of 1200x150"), ("cells", &frames.to_string()), ("other", "[]"), ("errors", "0")]
    {
        assert!(seen.contains(&format!("data-{name}=\"{value}\"")), "{name}: {seen}");
    }
}

#[test]
fn names_cannot_break_out_of_a_flame_graph() {
    let (svg, done) = exported_file(&page::hostile(), Form::Flame, Of::Resident);
    let (dom, console) = browsed("flame.svg", std::str::from_utf8(&svg).unwrap());
    assert_eq!(console, "");
    for (word, times) in [("<script", 1), ("<svg", 2), ("<img", 0), ("\u{202e}", 0), ("parsererror", 0)] {
        assert_eq!(dom.matches(word).count(), times, "{word}: {dom}");
    }
    // Every frame is there, the last one too.
    assert_eq!(dom.matches("fg:w=").count(), std::str::from_utf8(&svg).unwrap().matches("fg:w=").count());
    assert!(done.stacks > 2 && dom.contains("window.broken = 1"), "it is told all the same");
}
