//! A line's values, as JSON or as words.

use std::io::Write;

use super::line::{Value, comm_of, describe, kind};
use crate::event::{Event, FileId};
use crate::units::Range;

/// The event as one JSON object, without the line's end.
pub fn json<'a>(
    event: &'a Event,
    tgid: u32,
    path: &impl Fn(FileId) -> Option<&'a str>,
    replaced: &'a [Range],
    row: &mut Vec<u8>,
) {
    // SANITY: writing to a Vec cannot fail.
    let _ = write!(
        row,
        r#"{{"ts":{},"cpu":{},"layer":"{}","kind":"{}","tgid":{tgid},"tid":{}"#,
        event.ts.0,
        event.cpu,
        event.body.layer().word(),
        kind(&event.body),
        event.tid
    );
    describe(event, path, replaced, &mut |key, value| {
        let _ = write!(row, r#","{key}":"#);
        json_value(value, row);
    });
    if let Some((key, comm)) = comm_of(&event.body) {
        let _ = write!(row, r#","{key}":"#);
        json_text(&comm, row);
    }
    row.push(b'}');
}

/// A value as JSON, alone.
pub(crate) fn json_of(value: Value<'_>) -> String {
    let mut json = Vec::new();
    json_value(value, &mut json);
    String::from_utf8(json).unwrap_or_default()
}

fn json_value(value: Value<'_>, row: &mut Vec<u8>) {
    let _ = match value {
        Value::Number(number) => write!(row, "{number}"),
        Value::Signed(number) => write!(row, "{number}"),
        Value::Address(addr) => write!(row, r#""{addr:#x}""#),
        Value::Flag(flag) => write!(row, "{flag}"),
        Value::Text(text) => {
            json_text(text, row);
            Ok(())
        }
        Value::Ranges(ranges) => {
            for (index, range) in ranges.iter().enumerate() {
                row.push(if index == 0 { b'[' } else { b',' });
                let _ = write!(row, r#"{{"addr":"{:#x}","bytes":{}}}"#, range.start, range.bytes().0);
            }
            row.push(b']');
            Ok(())
        }
        Value::Functions(functions) => {
            row.push(b'[');
            for (index, function) in functions.iter().enumerate() {
                row.extend_from_slice(if index == 0 { br#"{"name":"# } else { br#",{"name":"# });
                json_text(&function.name, row);
                row.extend_from_slice(br#","file":"#);
                json_text(&function.file, row);
                let _ = write!(row, r#","line":{}}}"#, function.line);
            }
            row.push(b']');
            Ok(())
        }
        Value::Actor(tid, actor) => {
            let _ = write!(row, r#"{{"tid":{tid},"tgid":{},"comm":"#, actor.tgid);
            json_text(&actor.comm.to_text(), row);
            row.push(b'}');
            Ok(())
        }
    };
}

fn json_text(text: &str, row: &mut Vec<u8>) {
    // SANITY: a string always serializes, and a Vec always takes it.
    let _ = serde_json::to_writer(&mut *row, text);
}

/// Like [`describe`], with the names too, as words for people.
pub(super) fn words<'a>(
    event: &'a Event,
    path: &impl Fn(FileId) -> Option<&'a str>,
    replaced: &'a [Range],
    row: &mut Vec<u8>,
) {
    describe(event, path, replaced, &mut |key, value| {
        let _ = match value {
            Value::Number(number) => write!(row, " {key}={number}"),
            Value::Signed(number) => write!(row, " {key}={number}"),
            Value::Address(addr) => write!(row, " {key}={addr:#x}"),
            Value::Flag(flag) => write!(row, " {key}={flag}"),
            Value::Text(text) => write!(row, " {key}={}", text.escape_debug()),
            Value::Ranges(ranges) => {
                for (index, range) in ranges.iter().enumerate() {
                    let sign = if index == 0 { format!(" {key}=") } else { ",".to_owned() };
                    let _ = write!(row, "{sign}{:#x}+{}", range.start, range.bytes().0);
                }
                Ok(())
            }
            Value::Functions(functions) => {
                for (index, function) in functions.iter().enumerate() {
                    let sign = if index == 0 { format!(" {key}=") } else { ",".to_owned() };
                    let (name, file) = (function.name.escape_debug(), function.file.escape_debug());
                    let _ = write!(row, "{sign}{name}@{file}:{}", function.line);
                }
                Ok(())
            }
            Value::Actor(tid, actor) => write!(row, " {key}={}/{tid}", actor.comm.to_text().escape_debug()),
        };
    });
    if let Some((key, comm)) = comm_of(&event.body) {
        let _ = write!(row, " {key}={}", comm.escape_debug());
    }
}
