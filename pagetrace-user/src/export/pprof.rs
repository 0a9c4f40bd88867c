//! Weighted stacks as a profile of pprof.
//!
//! *Source.* `profile.proto` of google/pprof: the messages and the numbers of their fields, gzipped as a whole.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::dump::hex;
use crate::event::Header;
use crate::replay::State;
use crate::stacks::{Frame, Profile};

#[derive(Clone, PartialEq, Message)]
struct Pprof {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// Files lie this far from each other in the addresses of a profile: offsets in files stand for addresses.
const FILE_SPACING: u64 = 1 << 40;

struct Tables {
    out: Pprof,
    texts: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    mappings: HashMap<String, u64>,
    /// By the numbers of the frames at one place, the innermost first.
    locations: HashMap<Vec<usize>, u64>,
}

/// Writes the profile.
///
/// *Errors.* Those of `out`.
pub(super) fn write(
    header: &Header,
    state: &State,
    profile: &Profile,
    sample_type: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut tables = Tables {
        out: Pprof::default(),
        texts: HashMap::new(),
        functions: HashMap::new(),
        mappings: HashMap::new(),
        locations: HashMap::new(),
    };
    tables.text("");
    let value_type = ValueType { r#type: tables.text(sample_type), unit: tables.text(profile.unit) };
    tables.out.sample_type.push(value_type);
    let build_ids = build_ids(state);
    // The first one is taken for the program.
    let is_file = |frame: &&Frame| !frame.image.is_empty() && !frame.is_of_kernel();
    if let Some(frame) = profile.frames.iter().find(is_file) {
        tables.mapping(&frame.image, &build_ids);
    }
    for sample in &profile.samples {
        let mut location_id = Vec::new();
        // A place's frames stand together, the inlined ones before the one that they are inlined into.
        let mut place: Vec<usize> = Vec::new();
        for index in sample.frames.iter().rev() {
            let Some(frame) = profile.frames.get(*index) else { continue };
            place.push(*index);
            if !frame.inlined {
                location_id.push(tables.location(profile, &place, &build_ids));
                place.clear();
            }
        }
        let value = vec![i64::try_from(sample.value).unwrap_or(i64::MAX)];
        tables.out.sample.push(Sample { location_id, value });
    }
    let from = state.tally().first.unwrap_or_default();
    let wall = header.clock_wall.saturating_add(from.0.saturating_sub(header.clock_monotonic));
    tables.out.time_nanos = i64::try_from(wall).unwrap_or(0);
    tables.out.duration_nanos = i64::try_from(state.now().since(from).0).unwrap_or(0);
    let comment = tables.text(profile.title);
    tables.out.comment.push(comment);
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&tables.out.encode_to_vec())?;
    gzip.finish()?.flush()
}

/// By path.
fn build_ids(state: &State) -> HashMap<String, String> {
    let files = state.files().filter_map(|(id, file)| Some((file.path.clone(), hex(state.stacks().build_id(id)?))));
    files.collect()
}

impl Tables {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(known) = self.texts.get(text) {
            return *known;
        }
        let number = self.out.string_table.len() as i64;
        self.out.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), number);
        number
    }

    fn location(&mut self, profile: &Profile, place: &[usize], build_ids: &HashMap<String, String>) -> u64 {
        if let Some(known) = self.locations.get(place) {
            return *known;
        }
        let frames: Vec<&Frame> = place.iter().filter_map(|index| profile.frames.get(*index)).collect();
        let mut line = Vec::new();
        for frame in &frames {
            line.push(Line { function_id: self.function(frame), line: i64::from(frame.line) });
        }
        let last = frames.last().copied();
        let image = last.map(|frame| frame.image.as_str()).unwrap_or_default();
        let mapping_id = if image.is_empty() { 0 } else { self.mapping(image, build_ids) };
        let offset = last.map_or(0, |frame| frame.offset);
        let address = if mapping_id == 0 { offset } else { (mapping_id * FILE_SPACING).saturating_add(offset) };
        let id = self.out.location.len() as u64 + 1;
        self.out.location.push(Location { id, mapping_id, address, line });
        self.locations.insert(place.to_vec(), id);
        id
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let key = (frame.name.clone(), frame.file.clone());
        if let Some(known) = self.functions.get(&key) {
            return *known;
        }
        let id = self.out.function.len() as u64 + 1;
        let (name, filename) = (self.text(&frame.name), self.text(&frame.file));
        self.out.function.push(Function { id, name, system_name: name, filename });
        self.functions.insert(key, id);
        id
    }

    fn mapping(&mut self, image: &str, build_ids: &HashMap<String, String>) -> u64 {
        if let Some(known) = self.mappings.get(image) {
            return *known;
        }
        let id = self.out.mapping.len() as u64 + 1;
        let (filename, build_id) = (self.text(image), self.text(build_ids.get(image).map_or("", String::as_str)));
        self.out.mapping.push(Mapping {
            id,
            memory_start: id * FILE_SPACING,
            memory_limit: (id + 1) * FILE_SPACING,
            filename,
            build_id,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
        self.mappings.insert(image.to_owned(), id);
        id
    }
}
