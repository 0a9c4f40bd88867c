//! The tables of a file of heaptrack: strings, places, and the tree of calls.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::event::{KERNEL, Place, StackId};
use crate::replay::State;

/// Nodes and places are numbered when they are met, and written at the end, when their names are known.
#[derive(Debug, Default)]
pub(super) struct Sites {
    /// By stack; no stack has a node too, which says so.
    stacks: HashMap<Option<StackId>, u32>,
    /// By parent (0: none) and place; `None`: no stack was recorded.
    nodes: HashMap<(u32, Option<Place>), u32>,
    places: HashMap<Option<Place>, u32>,
    /// Both in the order of their numbers: the place and the parent of a node.
    tree: Vec<(u32, u32)>,
    order: Vec<Option<Place>>,
}

impl Sites {
    /// The node in which a stack ends.
    pub fn node(&mut self, state: &State, stack: Option<StackId>) -> u32 {
        if let Some(known) = self.stacks.get(&stack) {
            return *known;
        }
        let mut places: Vec<Place> = stack.map(|stack| state.stacks().places(stack).collect()).unwrap_or_default();
        places.reverse();
        let node = if places.is_empty() {
            self.child(0, None)
        } else {
            places.into_iter().fold(0, |parent, place| self.child(parent, Some(place)))
        };
        self.stacks.insert(stack, node);
        node
    }

    fn child(&mut self, parent: u32, place: Option<Place>) -> u32 {
        if let Some(known) = self.nodes.get(&(parent, place)) {
            return *known;
        }
        let next = self.order.len() as u32 + 1;
        let number = *self.places.entry(place).or_insert(next);
        if number == next {
            self.order.push(place);
        }
        self.tree.push((number, parent));
        let node = self.tree.len() as u32;
        self.nodes.insert((parent, place), node);
        node
    }

    /// Writes the tables.
    pub fn write(&self, state: &State, out: &mut impl Write) -> io::Result<()> {
        let mut strings = Strings::default();
        let mut line = String::new();
        for place in &self.order {
            line.clear();
            let (module, address) = match place {
                Some(Place::File { file, offset }) => {
                    (state.file(*file).map(|file| file.path.as_str()).unwrap_or_default(), *offset)
                }
                Some(Place::Address(address)) => ("", *address),
                Some(Place::Kernel(offset)) => (KERNEL, *offset),
                Some(Place::Cut) | None => ("", 0),
            };
            let module = strings.number(module, out)?;
            // SANITY: writing to a String cannot fail.
            let _ = write!(line, "i {address:x} {module:x}");
            let word = match place {
                Some(Place::Cut) => "[calls farther out are not known]",
                None => "[no stack was recorded]",
                Some(_) => "",
            };
            if !word.is_empty() {
                let _ = write!(line, " {:x} 0 0", strings.number(word, out)?);
            }
            for function in place.map(|place| state.stacks().functions(place)).unwrap_or_default() {
                let (name, file) = (strings.number(&function.name, out)?, strings.number(&function.file, out)?);
                let _ = write!(line, " {name:x} {file:x} {:x}", function.line);
            }
            writeln!(out, "{line}")?;
        }
        for (place, parent) in &self.tree {
            writeln!(out, "t {place:x} {parent:x}")?;
        }
        Ok(())
    }
}

/// Strings by number, from 1 on; the empty one is 0.
#[derive(Debug, Default)]
struct Strings {
    numbers: HashMap<String, u32>,
}

impl Strings {
    fn number(&mut self, text: &str, out: &mut impl Write) -> io::Result<u32> {
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(known) = self.numbers.get(text) {
            return Ok(*known);
        }
        let number = self.numbers.len() as u32 + 1;
        self.numbers.insert(text.to_owned(), number);
        let line = one_line(text);
        writeln!(out, "s {:x} {line}", line.len())?;
        Ok(number)
    }
}

/// A text that does not end a line.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
