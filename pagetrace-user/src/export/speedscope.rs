//! Weighted stacks as a file of speedscope.
//!
//! *Source.* <https://www.speedscope.app/file-format-schema.json>: a `sampled` profile.

use std::io::{self, Write};

use serde::Serialize;

use crate::stacks::Profile;

#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: &'a str,
    shared: Shared<'a>,
    profiles: [Sampled<'a>; 1],
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct Sampled<'a> {
    r#type: &'static str,
    name: &'a str,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    samples: Vec<&'a [usize]>,
    weights: Vec<u64>,
}

/// Writes the profile; `name` is the process's.
///
/// *Errors.* Those of `out`.
pub(super) fn write(profile: &Profile, name: &str, out: &mut impl Write) -> io::Result<()> {
    let frame = |frame: &'_ crate::stacks::Frame| (frame.line > 0).then_some(frame.line);
    let frames =
        profile.frames.iter().map(|each| Frame { name: &each.name, file: &each.file, line: frame(each) }).collect();
    let sampled = Sampled {
        r#type: "sampled",
        name: profile.title,
        unit: if profile.unit == "bytes" { "bytes" } else { "none" },
        start: 0,
        end: profile.total,
        samples: profile.samples.iter().map(|sample| sample.frames.as_slice()).collect(),
        weights: profile.samples.iter().map(|sample| sample.value).collect(),
    };
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        exporter: concat!("pagetrace ", env!("CARGO_PKG_VERSION")),
        name,
        shared: Shared { frames },
        profiles: [sampled],
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.flush()
}
