//! Traces for Perfetto, read by its own messages: the Python package perfetto has them, and no program that opens a trace.

use std::fs;
use std::path::Path;
use std::process::Command;

use pagetrace_user::event::{Body, Member};
use pagetrace_user::export::Form;
use pagetrace_user::format::Reader;
use pagetrace_user::replay::fold;
use pagetrace_user::stacks::Of;
use serde_json::{Value, json};

use super::{exported, exported_file, heaptrack, package, tables};
use crate::fixture;

/// Reads a trace and says what is on its tracks. A field that the messages do not have, a number that names nothing, an end
/// without a beginning and a packet out of its clock are errors.
const READ: &str = "
import json, sys
from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

def check(message):
    assert not len(UnknownFieldSet(message)), message
    for field, value in message.ListFields():
        if field.message_type:
            for each in value if field.is_repeated else [value]:
                check(each)

trace = Trace.FromString(open(sys.argv[1], 'rb').read())
check(trace)
assert trace.packet[0].sequence_flags == 1 and all(packet.sequence_flags == 2 for packet in trace.packet[1:])
assert len({packet.trusted_packet_sequence_id for packet in trace.packet}) == 1
clocks = {clock.clock_id: clock.timestamp for clock in trace.packet[0].clock_snapshot.clocks}
tracks, counters, slices, instants, heap, threads, depth = {}, {}, [], [], {}, [], {}
for packet in trace.packet:
    if packet.HasField('track_descriptor'):
        track = packet.track_descriptor
        assert track.uuid not in tracks and (not track.parent_uuid or track.parent_uuid in tracks)
        tracks[track.uuid] = track
        if track.HasField('thread'):
            threads.append([track.thread.pid, track.thread.tid, track.thread.thread_name])
    if packet.HasField('track_event'):
        event = packet.track_event
        assert packet.timestamp_clock_id in clocks and packet.timestamp
        track = tracks[event.track_uuid]
        notes = {note.name: getattr(note, note.WhichOneof('value')) for note in event.debug_annotations}
        if event.type == TrackEvent.TYPE_COUNTER:
            counters.setdefault(track.name, []).append(event.counter_value)
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in depth, 'a slice in a slice'
            depth[event.track_uuid] = [event.name, packet.timestamp, notes]
        elif event.type == TrackEvent.TYPE_SLICE_END:
            name, began, notes = depth.pop(event.track_uuid)
            assert began < packet.timestamp
            slices.append([name, packet.timestamp - began, notes])
        else:
            assert event.type == TrackEvent.TYPE_INSTANT
            instants.append([event.name, notes])
    if packet.HasField('profile_packet'):
        names = packet.interned_data
        functions = {name.iid: name.str.decode() for name in names.function_names}
        paths = {path.iid: path.str.decode() for path in names.mapping_paths}
        mappings = {mapping.iid: [paths[path] for path in mapping.path_string_ids] for mapping in names.mappings}
        frames = {frame.iid: (functions[frame.function_name_id], mappings[frame.mapping_id]) for frame in names.frames}
        stacks = {stack.iid: [frames[frame][0] for frame in stack.frame_ids] for stack in names.callstacks}
        dump, = packet.profile_packet.process_dumps
        for sample in dump.samples:
            sums = [sample.self_allocated, sample.self_freed, sample.alloc_count, sample.free_count]
            names = ';'.join(stacks[sample.callstack_id])
            heap[names] = [a + b for a, b in zip(sums, heap.get(names, [0] * 4))]
        heap['period'] = dump.sampling_interval_bytes
assert not depth, 'slices without an end'
process = tracks[1].process
print(json.dumps({'process': [process.pid, process.process_name], 'counters': counters, 'slices': slices,
                  'instants': instants, 'heap': heap, 'threads': threads, 'clocks': clocks}))
";

fn read(written: &[u8]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pftrace");
    assert_eq!(Form::of(&path), Some(Form::Perfetto));
    fs::write(&path, written).unwrap();
    read_file(&path)
}

fn read_file(path: &Path) -> Value {
    let folders = std::env::join_paths([package("perfetto-0.59.1"), package("protobuf-7.36.2")]).unwrap();
    let output = Command::new("python3").env("PYTHONPATH", folders).args(["-c", READ]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn perfetto_s_own_messages_read_every_kind_of_event() {
    for events in tables::all() {
        let (written, done) = exported(&events, Form::Perfetto, Of::Resident);
        assert_eq!(done.events, events.len() as u64);
        let seen = read(&written);
        let header = fixture::header();
        assert_eq!(seen["process"], json!([header.tgid, header.comm]));
        assert_eq!(
            (&seen["clocks"]["1"], &seen["clocks"]["3"]),
            (&json!(header.clock_wall), &json!(header.clock_monotonic))
        );
        for member in Member::ALL {
            let name = if *member == Member::Swap { "swap".to_owned() } else { format!("RSS {}", member.word()) };
            let mut levels: Vec<u64> = Vec::new();
            for event in &events {
                if let Body::Frame { member: of, level, .. } | Body::Rss { member: of, level } = &event.body
                    && of == member
                    && (levels.last() != Some(&level.bytes().0) || level.0 == 0)
                {
                    levels.push(level.bytes().0);
                }
            }
            let seen: Vec<u64> = serde_json::from_value(seen["counters"][&name].clone()).unwrap_or_default();
            assert_eq!(seen, levels, "{name}");
        }
    }
}

#[test]
fn perfetto_sees_rss_calls_and_the_collector() {
    let events = fixture::eventful();
    let seen = read(&exported(&events, Form::Perfetto, Of::Resident).0);
    let bytes = fixture::whole(&events);
    let (state, _) = fold(&mut Reader::new(bytes.as_slice()).unwrap()).unwrap();
    let resident = state.levels().resident().bytes().0;
    assert_eq!(seen["counters"]["RSS"].as_array().unwrap().last(), Some(&json!(resident)));
    let named = |list: &Value, name: &str| -> Vec<Value> {
        list.as_array().unwrap().iter().filter(|act| act[0] == name).cloned().collect()
    };
    let mmap = named(&seen["slices"], "mmap");
    assert_eq!(mmap.len(), 4);
    assert_eq!((&mmap[0][1], &mmap[0][2]["bytes"]), (&json!(100_000), &json!(1024 * 4096)));
    assert_eq!(named(&seen["slices"], "madvise dontneed").len(), 1);
    assert_eq!(named(&seen["slices"], "direct_reclaim").len(), 1);
    assert_eq!(named(&seen["instants"], "mmap failed")[0][1]["error"], "ENOMEM");
    assert_eq!(named(&seen["instants"], "lost")[0][1]["count"], 5);
    assert!(seen["threads"].as_array().unwrap().contains(&json!([40, 40, "khugepaged"])), "{}", seen["threads"]);

    let seen = read(&exported(&fixture::page_heap(), Form::Perfetto, Of::Resident).0);
    assert_eq!(named(&seen["slices"], "gc_mark").len(), 1);
    assert_eq!(named(&seen["instants"], "gc_sweep").len(), 1);
}

#[test]
fn perfetto_sees_objects_by_stack() {
    let bytes = heaptrack::trace(&heaptrack::program().events, 0);
    let seen = read(&exported_file(&bytes, Form::Perfetto, Of::Resident).0);
    let expected = json!({
        "main;gr\now\"": [1200, 1200, 2, 2],
        "main;put;fill": [3064, 0, 2, 0],
        "[no stack was recorded]": [96, 0, 1, 0],
        "period": 1,
    });
    assert_eq!(seen["heap"], expected);
}
