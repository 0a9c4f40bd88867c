//! Flame graphs: weighted stacks as a tree, as small as it can be drawn.
//!
//! *Bounds.* A frame whose share is below one in [`SHARES`] is left out with all on top of it, and a stack ends after
//! [`MOST_FRAMES`] frames: what is left out is part of the frame below. Frames are one if function, source file and program
//! are; the lines of the heaviest are kept.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::shown;
use crate::stacks::{Frame, Of, Others, Profile};

/// A frame is drawn from this part of all on.
const SHARES: u64 = 4000;
const MOST_FRAMES: usize = 200;
/// Lines of one frame that are told.
const MOST_LINES: usize = 3;

/// A node's parent, frame and weight.
pub type Nodes = Vec<(usize, usize, u64)>;
/// By node: line and weight.
pub type Lines = BTreeMap<usize, Vec<(u32, u64)>>;

/// A flame graph, as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flame {
    /// The word on the command line.
    pub of: &'static str,
    /// On its tab.
    pub tab: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub total: u64,
    /// How far events had stacks, where not all had.
    pub note: String,
    /// Name, source file, program or library.
    pub frames: Vec<[String; 3]>,
    /// Parents before children, of one parent the heaviest first: the parent's number plus one (0: none), the frame, the
    /// weight.
    pub nodes: Nodes,
    /// By node: source line and weight, of nodes that have any, the heaviest first.
    pub lines: Lines,
}

#[derive(Default)]
struct Node {
    frame: usize,
    value: u64,
    lines: BTreeMap<u32, u64>,
    children: Vec<usize>,
}

impl Flame {
    /// `None` where nothing was weighed.
    #[must_use]
    pub fn of(of: Of, profile: &Profile) -> Option<Flame> {
        if profile.samples.is_empty() || profile.total == 0 {
            return None;
        }
        let mut tree = Tree::default();
        for sample in &profile.samples {
            tree.add(profile.frames_of(sample), sample.value);
        }
        let (frames, nodes, lines) = tree.drawn(profile.total);
        let tab = match of {
            Of::Resident => "resident, by first touch",
            Of::Mapped => "resident, by who mapped it",
            Of::Both => "by who mapped, then touched",
            Of::Returned => "given back and back again",
            Of::Faults => "page faults",
            Of::Heap => "page heap in use",
            Of::Objects => "objects that live",
        };
        let (of, title, unit) = (of.word(), profile.title, profile.unit);
        Some(Flame { of, tab, title, unit, total: profile.total, note: note(profile), frames, nodes, lines })
    }
}

fn note(profile: &Profile) -> String {
    let (events, told) = (profile.events, profile.events_with_stack);
    let rest = match profile.others {
        Others::AsBefore => "the others count as the last one of their thread that has one",
        Others::Apart => "the others stand apart",
    };
    if told >= events { String::new() } else { format!("{told} of {events} events have a stack of their own; {rest}") }
}

/// The nodes; the first is below all stacks.
#[derive(Default)]
struct Tree<'a> {
    nodes: Vec<Node>,
    by_parent: HashMap<(usize, usize), usize>,
    /// Name, source file and program of each frame.
    frames: Vec<[&'a str; 3]>,
    numbers: HashMap<[&'a str; 3], usize>,
}

impl<'a> Tree<'a> {
    fn add(&mut self, stack: impl Iterator<Item = &'a Frame>, value: u64) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for frame in stack.take(MOST_FRAMES) {
            let key = [frame.name.as_str(), frame.file.as_str(), frame.image.as_str()];
            let number = *self.numbers.entry(key).or_insert_with(|| {
                self.frames.push(key);
                self.frames.len() - 1
            });
            let next = self.nodes.len();
            let child = *self.by_parent.entry((at, number)).or_insert(next);
            if child == next {
                self.nodes.push(Node { frame: number, ..Node::default() });
                if let Some(parent) = self.nodes.get_mut(at) {
                    parent.children.push(child);
                }
            }
            at = child;
            if let Some(node) = self.nodes.get_mut(at) {
                node.value = node.value.saturating_add(value);
                if frame.line > 0 {
                    let sum = node.lines.entry(frame.line).or_default();
                    *sum = sum.saturating_add(value);
                }
            }
        }
    }

    /// Frames, nodes and lines of what is wide enough.
    fn drawn(&self, total: u64) -> (Vec<[String; 3]>, Nodes, Lines) {
        let is_wide = |value: u64| u128::from(value) * u128::from(SHARES) >= u128::from(total);
        let (mut nodes, mut lines) = (Nodes::new(), Lines::new());
        let (mut frames, mut numbers): (Vec<[String; 3]>, HashMap<usize, usize>) = Default::default();
        // A stack of its own: one of a forged trace may be deep.
        let mut open: Vec<(usize, usize)> = vec![(0, 0)];
        while let Some((at, parent)) = open.pop() {
            let Some(node) = self.nodes.get(at) else { continue };
            let mut new_parent = 0;
            if at > 0 {
                let next = frames.len();
                let frame = *numbers.entry(node.frame).or_insert(next);
                if frame == next {
                    frames.push(self.frames.get(node.frame).copied().unwrap_or_default().map(shown));
                }
                nodes.push((parent, frame, node.value));
                new_parent = nodes.len();
                let mut of_node: Vec<(u32, u64)> = node.lines.iter().map(|(line, value)| (*line, *value)).collect();
                of_node.sort_by_key(|(line, value)| (std::cmp::Reverse(*value), *line));
                of_node.truncate(MOST_LINES);
                if !of_node.is_empty() {
                    lines.insert(new_parent - 1, of_node);
                }
            }
            let mut children: Vec<(u64, [&str; 3], usize)> = (node.children.iter())
                .filter_map(|child| self.nodes.get(*child).map(|node| (child, node)))
                .filter(|(_, node)| is_wide(node.value))
                .map(|(child, node)| (node.value, self.frames.get(node.frame).copied().unwrap_or_default(), *child))
                .collect();
            // The last one is taken first.
            children.sort_by(|a, b| (a.0, &b.1).cmp(&(b.0, &a.1)));
            open.extend(children.into_iter().map(|(_, _, child)| (child, new_parent)));
        }
        (frames, nodes, lines)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::stacks::Sample;

    fn profile(stacks: &[(&[&str], u64)]) -> Profile {
        let mut names: Vec<&str> = stacks.iter().flat_map(|(frames, _)| frames.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let number = |name: &&str| names.iter().position(|known| known == name).unwrap();
        Profile {
            title: "",
            unit: "bytes",
            total: stacks.iter().map(|(_, value)| value).sum(),
            events: 3,
            events_with_stack: 2,
            others: Others::Apart,
            frames: names.iter().map(|name| Frame { name: (*name).to_owned(), ..Frame::default() }).collect(),
            samples: stacks
                .iter()
                .map(|(frames, value)| Sample { value: *value, frames: frames.iter().map(number).collect() })
                .collect(),
        }
    }

    #[test]
    fn stacks_become_a_tree_without_what_cannot_be_seen() {
        let stacks: [(&[&str], u64); 4] =
            [(&["main", "put"], 3_000), (&["main", "get"], 5_000), (&["main"], 1_999), (&["main", "rare"], 1)];
        let flame = Flame::of(Of::Resident, &profile(&stacks)).unwrap();
        let named: Vec<(usize, &str, u64)> = flame
            .nodes
            .iter()
            .map(|(parent, frame, value)| (*parent, flame.frames[*frame][0].as_str(), *value))
            .collect();
        assert_eq!(named, [(0, "main", 10_000), (1, "get", 5_000), (1, "put", 3_000)]);
        assert_eq!(Flame::of(Of::Resident, &profile(&[])), None);
    }

    #[test]
    fn a_stack_of_any_depth_ends() {
        let deep: Vec<&str> = vec!["again"; 100_000];
        let flame = Flame::of(Of::Resident, &profile(&[(&deep, 1)])).unwrap();
        assert_eq!(flame.nodes.len(), MOST_FRAMES);
    }
}
