//! Profiles of speedscope, checked by its own schema.
//!
//! *Source.* `tests/data/speedscope-1.22.2.schema.json` is `dist/release/file-format-schema.json` of the npm package
//! speedscope 1.22.2, unchanged (MIT License, Copyright (c) 2018 Jamie Wong).

use pagetrace_user::export::Form;
use pagetrace_user::format::Reader;
use pagetrace_user::stacks::{Of, weigh};
use serde_json::{Value, json};

use super::exported;
use crate::{fixture, stacked};

const SCHEMA: &str = include_str!("../../data/speedscope-1.22.2.schema.json");

/// What of `value` does not fit `schema`, which may refer to definitions of `root`: the part of JSON Schema (draft 7)
/// that speedscope uses. What else a schema says is an error too, not passed over.
fn misfits(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "definitions" | "title" => {}
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                found.extend(misfits(root, root.pointer(path).unwrap(), value, place));
            }
            "anyOf" => {
                let ways: Vec<_> =
                    rule.as_array().unwrap().iter().map(|way| misfits(root, way, value, place)).collect();
                if ways.iter().all(|way| !way.is_empty()) {
                    found.push(format!("{place}: none of {ways:?}"));
                }
            }
            "enum" if rule.as_array().unwrap().contains(value) => {}
            "type" => {
                let fits = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    other => panic!("a type that this does not know: {other}"),
                };
                if !fits {
                    found.push(format!("{place}: no {rule}"));
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(misfits(root, rule, item, &format!("{place}/{at}")));
                }
            }
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        found.extend(misfits(root, rule, value, &format!("{place}/{key}")));
                    }
                }
            }
            "required" => {
                let missing = rule.as_array().unwrap().iter().filter(|key| value.get(key.as_str().unwrap()).is_none());
                found.extend(missing.map(|key| format!("{place}: lacks {key}")));
            }
            _ => found.push(format!("{place}: {word} {rule} against {value}")),
        }
    }
    found
}

#[test]
fn speedscope_s_own_schema_accepts_every_profile() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let check = |file: &Value| misfits(&schema, &schema, file, "");
    let bytes = fixture::whole(&stacked::trace());
    for (word, of) in Of::ALL.iter().filter(|(_, of)| !matches!(of, Of::Objects | Of::Heap)) {
        let ours = weigh(&mut Reader::new(bytes.as_slice()).unwrap(), *of, None).unwrap().1;
        let (written, done) = exported(&stacked::trace(), Form::Speedscope, *of);
        let mut file: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(check(&file), [""; 0], "{word}");

        let sampled = &file["profiles"][0];
        let (samples, weights) = (sampled["samples"].as_array().unwrap(), sampled["weights"].as_array().unwrap());
        assert_eq!((samples.len() as u64, weights.len() as u64), (done.stacks, done.stacks));
        assert_eq!(weights.iter().map(|weight| weight.as_u64().unwrap()).sum::<u64>(), ours.total);
        assert_eq!((sampled["startValue"].as_u64(), sampled["endValue"].as_u64()), (Some(0), Some(ours.total)));
        let frames = file["shared"]["frames"].as_array().unwrap();
        for (sample, theirs) in ours.samples.iter().zip(samples) {
            let names: Vec<&str> = ours.frames_of(sample).map(|frame| frame.name.as_str()).collect();
            let indices = theirs.as_array().unwrap().iter().map(|index| index.as_u64().unwrap() as usize);
            let theirs: Vec<&str> = indices.map(|index| frames[index]["name"].as_str().unwrap()).collect();
            assert_eq!(names, theirs, "{word}");
        }

        // The schema is not one that takes anything.
        for (place, wrong) in [
            ("/$schema", json!("https://example.org")),
            ("/shared/frames/0/name", json!(7)),
            ("/profiles/0/unit", json!("pages")),
            ("/profiles/0/weights", json!("none")),
            ("/profiles/0/type", json!("evented")),
        ] {
            let before = std::mem::replace(file.pointer_mut(place).unwrap(), wrong);
            assert_ne!(check(&file), [""; 0], "{place}");
            *file.pointer_mut(place).unwrap() = before;
        }
        file["shared"].as_object_mut().unwrap().remove("frames");
        assert_ne!(check(&file), [""; 0], "without frames");
    }
}
