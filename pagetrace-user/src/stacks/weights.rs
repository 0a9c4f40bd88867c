//! What stands behind how much of a state, each by the parts of its stack.

use std::collections::HashMap;

use super::{Of, Part, Word};
use crate::event::{Header, StackId};
use crate::replay::resident::{MakerId, Page};
use crate::replay::{Estimate, State};
use crate::units::PAGE_BYTES;

/// What one stack is put together from, the outermost first.
pub(super) type Parts = [Option<Part>; 3];

/// What stands behind how much; names come later in a trace than what they name.
pub(super) type Weights = HashMap<Parts, u64>;

pub(super) fn weights_of_objects(header: &Header, state: &State) -> Weights {
    let mut sums: HashMap<Option<StackId>, Estimate> = HashMap::new();
    for (_, live) in state.objects().live() {
        sums.entry(live.stack).or_default().add(live.bytes, header.object_period_bytes.unwrap_or(0));
    }
    let part = |stack: Option<StackId>| alone(stack.map_or(Part::Word(Word::NoStack), Part::Stack));
    sums.into_iter().map(|(stack, sum)| (part(stack), sum.bytes.round() as u64)).collect()
}

pub(super) fn weights_of_heap(state: &State) -> Weights {
    let mut weights = Weights::new();
    let mut known = 0_u64;
    let handed_out = state.stacks().handed_out();
    for (range, stack) in handed_out.filter_map(|(range, given)| Some((range, given.stack?))) {
        let weight = weights.entry(alone(Part::Stack(stack))).or_default();
        *weight = weight.saturating_add(range.bytes().0);
        known = known.saturating_add(range.bytes().0);
    }
    let rest = state.heap().in_use().0.saturating_sub(known);
    if rest > 0 {
        weights.insert(alone(Part::Word(Word::NoStack)), rest);
    }
    weights
}

pub(super) fn weights_of(state: &State, of: Of) -> Weights {
    let mut weights = Weights::new();
    if of == Of::Faults {
        for (stack, count) in state.stacks().by_fault() {
            weights.insert(alone(Part::Stack(stack)), count);
        }
        let told = state.stacks().faults();
        let rest = told.events.saturating_sub(told.stacks);
        if rest > 0 {
            weights.insert(alone(Part::Word(Word::NoStack)), rest);
        }
    } else {
        let mut add = |parts: Option<Parts>, bytes: u64| {
            if let Some(parts) = parts {
                let weight = weights.entry(parts).or_default();
                *weight = weight.saturating_add(bytes);
            }
        };
        // Neighbours mostly stand under the same stack: they are added up first.
        let (mut before, mut bytes) = (None, 0_u64);
        for (addr, page) in state.resident().iter() {
            let parts = parts_of(state, of, addr, page);
            if parts != before {
                add(before, bytes);
                (before, bytes) = (parts, 0);
            }
            bytes = bytes.saturating_add(PAGE_BYTES);
        }
        add(before, bytes);
    }
    weights
}

/// One part, as a whole.
fn alone(part: Part) -> Parts {
    [Some(part), None, None]
}

/// What a resident page's stack is made of; `None`: it does not count.
fn parts_of(state: &State, of: Of, addr: u64, page: Page) -> Option<Parts> {
    let stacks = state.stacks();
    let mapper = || stacks.mapper(addr).map_or(Part::Word(Word::BeforeTheRecording), Part::Stack);
    Some(match of {
        Of::Resident | Of::Faults | Of::Objects | Of::Heap => alone(toucher(state, page)),
        Of::Mapped => alone(mapper()),
        Of::Both => [Some(mapper()), Some(Part::TouchedBy), Some(toucher(state, page))],
        Of::Returned => {
            let given = stacks.given_back(addr).filter(|given| given.at < page.since)?;
            let giver = given.stack.map_or(Part::Word(Word::NoStack), Part::Stack);
            [Some(giver), Some(Part::BroughtBackBy), Some(toucher(state, page))]
        }
    })
}

/// Who made a page resident.
pub(super) fn toucher(state: &State, page: Page) -> Part {
    if let Some(stack) = page.stack {
        return Part::Stack(stack);
    }
    let maker = state.makers().all().get(page.maker.0 as usize);
    match maker {
        Some(maker) if maker.task.actor.is_some() => Part::Other(page.maker),
        _ if page.maker == MakerId(0) && page.file => Part::Word(Word::PagesOfFiles),
        _ if page.maker == MakerId(0) => Part::Word(Word::BeforeTheRecording),
        _ => Part::Word(Word::NoStack),
    }
}
