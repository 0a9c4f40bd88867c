//! Frames: places of code with the names that the trace has for them.

use std::collections::HashMap;

use serde::Serialize;

use super::{Part, Sample, Word};
use crate::event::{KERNEL, Place, StackId};
use crate::replay::State;

/// Words that stand between two stacks.
const TOUCHED: &str = "touched first by";
const BROUGHT_BACK: &str = "brought back by";

/// A function, or a word in brackets where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Frame {
    pub name: String,
    /// Source file and line; empty and 0 where they are not known.
    pub file: String,
    pub line: u32,
    /// The program or library, and the place in its file; empty where there is none.
    pub image: String,
    pub offset: u64,
    /// It was inlined into the next frame outward.
    pub inlined: bool,
}

impl Frame {
    /// Whether it stands between two stacks: the one outside of it, and the one that it says more of.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .is_some_and(|word| [TOUCHED, BROUGHT_BACK].contains(&word))
    }

    /// Whether it is a function of the kernel.
    #[must_use]
    pub fn is_of_kernel(&self) -> bool {
        self.image == KERNEL
    }

    fn word(text: &str) -> Frame {
        Frame { name: format!("[{text}]"), ..Frame::default() }
    }
}

/// Frames by number, each once.
pub(super) struct Labels<'a> {
    state: &'a State,
    frames: Vec<Frame>,
    numbers: HashMap<Frame, usize>,
    /// The numbers at a place, the outermost first.
    places: HashMap<Place, Vec<usize>>,
}

impl<'a> Labels<'a> {
    pub fn new(state: &'a State) -> Labels<'a> {
        Labels { state, frames: Vec::new(), numbers: HashMap::new(), places: HashMap::new() }
    }

    /// The numbers of a part's frames, the outermost first.
    pub fn frames_of(&mut self, part: Part) -> Vec<usize> {
        let frame = match part {
            Part::Stack(stack) => return self.stack(stack),
            Part::Word(Word::BeforeTheRecording) => Frame::word("before the recording"),
            Part::Word(Word::PagesOfFiles) => Frame::word("pages of files that came without an event"),
            Part::Word(Word::NoStack) => Frame::word("no stack was recorded"),
            Part::TouchedBy => Frame::word(TOUCHED),
            Part::BroughtBackBy => Frame::word(BROUGHT_BACK),
            Part::Other(maker) => {
                let maker = self.state.makers().all().get(maker.0 as usize);
                let actor = maker.and_then(|maker| maker.task.actor);
                Frame::word(&actor.map(|actor| actor.comm.to_text()).unwrap_or_default())
            }
        };
        vec![self.number(frame)]
    }

    /// The frames of one part alone, the outermost first.
    pub fn of_part(mut self, part: Part) -> Vec<Frame> {
        let numbers = self.frames_of(part);
        numbers.into_iter().filter_map(|number| self.frames.get(number).cloned()).collect()
    }

    /// The numbers of one stack's frames, the outermost first, where the offset counts only of those without a line.
    pub fn lines(&mut self, stack: StackId) -> Vec<usize> {
        let numbers = self.stack(stack);
        let mut line_of = |number: usize| match self.frames.get(number) {
            Some(frame) if frame.line > 0 => self.number(Frame { offset: 0, ..frame.clone() }),
            _ => number,
        };
        numbers.into_iter().map(&mut line_of).collect()
    }

    fn stack(&mut self, stack: StackId) -> Vec<usize> {
        let places: Vec<Place> = self.state.stacks().places(stack).collect();
        let mut frames = Vec::with_capacity(places.len());
        for place in places.into_iter().rev() {
            frames.extend(self.place(place));
        }
        frames
    }

    fn place(&mut self, place: Place) -> Vec<usize> {
        if let Some(known) = self.places.get(&place) {
            return known.clone();
        }
        let (image, offset) = match place {
            Place::Cut => {
                let number = self.number(Frame::word("calls farther out are not known"));
                self.places.insert(place, vec![number]);
                return vec![number];
            }
            Place::Address(address) => (String::new(), address),
            Place::Kernel(offset) => (KERNEL.to_owned(), offset),
            Place::File { file, offset } => {
                let path = self.state.file(file).map(|file| file.path.clone()).unwrap_or_default();
                (path, offset)
            }
        };
        let functions = self.state.stacks().functions(place);
        let last = functions.len().saturating_sub(1);
        let mut frames: Vec<Frame> = functions
            .iter()
            .enumerate()
            .map(|(at, function)| Frame {
                name: function.name.clone(),
                file: function.file.clone(),
                line: function.line,
                image: image.clone(),
                offset,
                inlined: at < last,
            })
            .collect();
        if frames.is_empty() {
            let short = image.rsplit('/').next().unwrap_or_default();
            let name = if short.is_empty() { format!("{offset:#x}") } else { format!("{short}+{offset:#x}") };
            frames.push(Frame { name, image, offset, ..Frame::default() });
        }
        let numbers: Vec<usize> = frames.into_iter().rev().map(|frame| self.number(frame)).collect();
        self.places.insert(place, numbers.clone());
        numbers
    }

    fn number(&mut self, frame: Frame) -> usize {
        let next = self.frames.len();
        *self.numbers.entry(frame).or_insert_with_key(|frame| {
            self.frames.push(frame.clone());
            next
        })
    }

    /// All frames in an order that depends on nothing but themselves; the samples are told their new numbers.
    pub fn sorted(self, samples: &mut [Sample]) -> Vec<Frame> {
        let mut order: Vec<usize> = (0..self.frames.len()).collect();
        order.sort_by(|a, b| self.frames.get(*a).cmp(&self.frames.get(*b)));
        let mut new = vec![0; order.len()];
        for (to, from) in order.iter().enumerate() {
            if let Some(slot) = new.get_mut(*from) {
                *slot = to;
            }
        }
        for frame in samples.iter_mut().flat_map(|sample| &mut sample.frames) {
            *frame = new.get(*frame).copied().unwrap_or_default();
        }
        order.iter().filter_map(|from| self.frames.get(*from).cloned()).collect()
    }
}
