//! Weighted stacks: which calls stand behind memory, or behind what happened to it.
//!
//! A [`Profile`] is a function of the state alone. What is resident is told whole: memory without a stack stands under a
//! word in brackets that says why, so that the samples of [`Of::Resident`] and [`Of::Mapped`] add up to the page set.
//!
//! *Units.* Bytes for memory, times for faults.

mod labels;
mod text;
mod weights;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use serde::Serialize;

use crate::event::{Body, Event, Header, StackId};
use crate::format::{Outcome, Trace};
use crate::replay::State;
use crate::replay::resident::{MakerId, Page};
use crate::units::Nanos;

pub use labels::Frame;
use labels::Labels;
pub(crate) use text::write_frames;
use weights::{Weights, toucher, weights_of, weights_of_heap, weights_of_objects};

/// The frames of one stack, the outermost first.
#[must_use]
pub fn frames_of(state: &State, stack: StackId) -> Vec<Frame> {
    Labels::new(state).of_part(Part::Stack(stack))
}

/// For each of these stacks the one that stands for all of the same functions, files and lines: a loop that a compiler
/// unrolled calls from several places. Where no line is known, the places tell stacks apart.
#[must_use]
pub fn same_lines(state: &State, stacks: impl Iterator<Item = StackId>) -> HashMap<StackId, StackId> {
    let mut labels = Labels::new(state);
    let mut first: HashMap<Vec<usize>, StackId> = HashMap::new();
    let stacks: BTreeSet<StackId> = stacks.collect();
    stacks.into_iter().map(|stack| (stack, *first.entry(labels.lines(stack)).or_insert(stack))).collect()
}

/// What is given and taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// An object of an allocator.
    Object,
    /// A run of a page heap.
    Run,
}

impl Unit {
    /// What a trace tells of: objects, if they were recorded and the process has an allocator whose objects can be.
    #[must_use]
    pub fn of(header: &Header, state: &State) -> Unit {
        let has_objects = header.object_period_bytes.is_some() && !state.objects().is_empty();
        if !has_objects && !state.heap().is_empty() { Unit::Run } else { Unit::Object }
    }
}

/// What is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Of {
    /// Resident memory, by who touched it first.
    Resident,
    /// Resident memory, by who mapped the range.
    Mapped,
    /// Resident memory, by who mapped the range and, within that, who touched it first.
    Both,
    /// Resident memory that had been given back to the kernel, by who gave it back and, within that, who brought it back.
    Returned,
    /// Page faults.
    Faults,
    /// Runs of a page heap that are handed out, by whom they were given to.
    Heap,
    /// Objects that live, by who asked for them: bytes asked for, an estimate where objects were sampled.
    Objects,
}

impl Of {
    /// Every one, with its word on the command line.
    pub const ALL: [(&'static str, Of); 7] = [
        ("resident", Of::Resident),
        ("mapped", Of::Mapped),
        ("both", Of::Both),
        ("returned", Of::Returned),
        ("faults", Of::Faults),
        ("heap", Of::Heap),
        ("objects", Of::Objects),
    ];

    /// Its word on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        Of::ALL.iter().find(|(_, of)| *of == self).map_or("", |(word, _)| word)
    }

    /// What a title says.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Of::Resident => "Resident memory, by the stack that touched it first",
            Of::Mapped => "Resident memory, by the stack that mapped it",
            Of::Both => "Resident memory, by the stack that mapped it and the one that touched it first",
            Of::Returned => "Memory that had been given back and is resident again, by the stack that gave it back",
            Of::Faults => "Page faults, by stack",
            Of::Heap => "The page heap of the allocator in use, by the stack that it was handed out to",
            Of::Objects => "Objects of allocators that live, by the stack that asked for them",
        }
    }

    /// What is counted.
    #[must_use]
    pub fn unit(self) -> &'static str {
        if self == Of::Faults { "count" } else { "bytes" }
    }
}

/// One stack and its weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub value: u64,
    /// Indices into the profile's frames, the outermost first.
    pub frames: Vec<usize>,
}

/// What an event without a stack of its own counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// The last one of its thread that has one.
    AsBefore,
    /// What has no stack.
    Apart,
}

/// Stacks, the heaviest first.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    pub title: &'static str,
    pub unit: &'static str,
    pub total: u64,
    /// Events of the kind that stand behind it, those of them whose stack was recorded, and what the others count as.
    pub events: u64,
    pub events_with_stack: u64,
    pub others: Others,
    pub frames: Vec<Frame>,
    pub samples: Vec<Sample>,
}

/// What one sample's frames are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Stack(StackId),
    /// No stack, for this reason.
    Word(Word),
    /// Another task did it.
    Other(MakerId),
    /// Between who made the room and who filled it.
    TouchedBy,
    BroughtBackBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Word {
    BeforeTheRecording,
    PagesOfFiles,
    NoStack,
}

/// Who made a page resident: a stack, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toucher(Part);

impl Toucher {
    #[must_use]
    pub fn of(state: &State, page: Page) -> Toucher {
        Toucher(toucher(state, page))
    }

    /// Its frames, the outermost first; `state` is that of the whole trace.
    #[must_use]
    pub fn frames(self, state: &State) -> Vec<Frame> {
        Labels::new(state).of_part(self.0)
    }
}

/// Folds all of a trace, and weighs what there is so long after its first event; else at the end, or just before the
/// process's.
///
/// # Errors
/// When the source cannot be read. Damage is not an error: it is in the outcome.
pub fn weigh(trace: &mut impl Trace, of: Of, at: Option<Nanos>) -> io::Result<(State, Profile, Outcome)> {
    let mut state = State::new();
    let mut weighing = Weighing::new(at);
    weighing.add(of);
    while let Some(event) = trace.next_event()? {
        weighing.before(&state, event);
        state.apply(event);
    }
    let outcome = trace.outcome();
    state.finish(outcome.is_whole());
    let profile = weighing.profile(trace.header(), &state, of);
    Ok((state, profile, outcome))
}

/// Weighs while others fold a trace: it is told of each event before the state is.
pub struct Weighing {
    at: Option<Nanos>,
    /// What is weighed, and the weights once their moment is over.
    weights: Vec<(Of, Option<Weights>)>,
}

impl Weighing {
    /// Of what there is so long after the first event; else at the end, or just before the process's.
    #[must_use]
    pub fn new(at: Option<Nanos>) -> Weighing {
        Weighing { at, weights: Vec::new() }
    }

    /// Weighs this too.
    pub fn add(&mut self, of: Of) {
        self.weights.push((of, None));
    }

    /// `event` follows on `state`.
    pub fn before(&mut self, state: &State, event: &Event) {
        let is_over = match self.at {
            Some(at) => event.ts.since(state.tally().first.unwrap_or(event.ts)) > at,
            None => !state.ended() && matches!(event.body, Body::Exit { .. } | Body::MmGone),
        };
        if self.at.is_none() && matches!(event.body, Body::Exec { .. }) {
            // It did not end after all.
            self.weights.iter_mut().for_each(|(_, weights)| *weights = None);
        }
        if !is_over {
            return;
        }
        for (of, weights) in &mut self.weights {
            if weights.is_none() && !matches!(of, Of::Faults | Of::Objects | Of::Heap) {
                *weights = Some(weights_of(state, *of));
            }
        }
    }

    /// The profile of one thing that was added; `state` is that of the whole trace.
    #[must_use]
    pub fn profile(&mut self, header: &Header, state: &State, of: Of) -> Profile {
        let kept = self.weights.iter_mut().find(|(known, _)| *known == of).and_then(|(_, weights)| weights.take());
        let weights = kept.unwrap_or_else(|| match of {
            Of::Objects => weights_of_objects(header, state),
            Of::Heap => weights_of_heap(state),
            _ => weights_of(state, of),
        });
        Profile::new(state, of, weights)
    }
}

impl Profile {
    fn new(state: &State, of: Of, weights: Weights) -> Profile {
        let mut labels = Labels::new(state);
        // Two stacks may have the same names: one line of a loop's, for instance.
        let mut samples: BTreeMap<Vec<usize>, u64> = BTreeMap::new();
        for (parts, weight) in weights {
            let frames = parts.into_iter().flatten().flat_map(|part| labels.frames_of(part)).collect();
            let sum = samples.entry(frames).or_default();
            *sum = sum.saturating_add(weight);
        }
        let mut samples: Vec<Sample> = samples.into_iter().map(|(frames, value)| Sample { value, frames }).collect();
        let frames = labels.sorted(&mut samples);
        samples.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.frames.cmp(&b.frames)));
        let told = match of {
            Of::Mapped => state.stacks().calls(),
            Of::Objects => state.stacks().objects(),
            Of::Heap => state.stacks().runs(),
            _ => state.stacks().faults(),
        };
        Profile {
            title: of.title(),
            unit: of.unit(),
            total: samples.iter().map(|sample| sample.value).fold(0, u64::saturating_add),
            events: told.events,
            events_with_stack: told.stacks,
            others: if matches!(of, Of::Faults | Of::Objects | Of::Mapped | Of::Heap) {
                Others::Apart
            } else {
                Others::AsBefore
            },
            frames,
            samples,
        }
    }

    /// The frames of a sample, the outermost first.
    pub fn frames_of<'a>(&'a self, sample: &'a Sample) -> impl DoubleEndedIterator<Item = &'a Frame> {
        sample.frames.iter().filter_map(|index| self.frames.get(*index))
    }

    /// One line a stack, as flame graph tools read it: frames from the outermost on with `;` between them, those of the
    /// kernel with `_[k]`, and the weight.
    #[must_use]
    pub fn folded(&self) -> String {
        let mut lines: Vec<String> = self
            .samples
            .iter()
            .map(|sample| {
                let name = |frame: &Frame| {
                    let name = frame.name.replace([';', '\n'], ":");
                    if frame.is_of_kernel() { name + "_[k]" } else { name }
                };
                let names: Vec<String> = self.frames_of(sample).map(name).collect();
                format!("{} {}\n", names.join(";"), sample.value)
            })
            .collect();
        lines.sort_unstable();
        lines.concat()
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}
