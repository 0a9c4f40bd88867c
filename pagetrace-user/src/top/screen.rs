//! What a key does: the moment that is shown, the list, how far it is scrolled.

use super::shot::{LISTS, Shot};

/// A key, as far as one means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Left,
    Right,
    Home,
    End,
    Up,
    Down,
    PageUp,
    PageDown,
    Tab,
    BackTab,
    /// The list of this number, from 1 on.
    List(usize),
    Help,
    Quit,
}

/// What a key asks for beyond the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Nothing,
    /// Another moment is to be shown: so long after the first event, or the end, wherever that goes.
    Show(Option<u64>),
    Quit,
}

/// Moments that the keys step over from the first event to the last.
const STEPS: u64 = 50;

/// What is on the screen beside the [`Shot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// The moment that was asked for; `None`: the end.
    pub at_ns: Option<u64>,
    /// An index of [`LISTS`].
    pub list: usize,
    /// Lines of the list above the first one that is shown.
    pub scrolled: usize,
    pub help: bool,
    /// Without colours.
    pub plain: bool,
    /// What the reading is at; empty: the shot is what was asked for.
    pub note: String,
}

impl Screen {
    /// Does what a key says; `page`: lines of a list that fit.
    pub fn press(&mut self, key: Key, shot: Option<&Shot>, page: usize) -> Act {
        if self.help {
            // Any key but the last ends the help.
            self.help = false;
            return if key == Key::Quit { Act::Quit } else { Act::Nothing };
        }
        let lines = shot.and_then(|shot| shot.lists.get(self.list)).map_or(0, |list| list.lines.len());
        match key {
            Key::Left | Key::Right | Key::Home | Key::End => {
                return self.travel(key, shot.map_or(0, |shot| shot.end_ns));
            }
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(page.max(1)),
            Key::Down => self.scrolled = self.scrolled.saturating_add(1),
            Key::PageDown => self.scrolled = self.scrolled.saturating_add(page.max(1)),
            Key::Tab => self.choose(self.list.saturating_add(1)),
            Key::BackTab => self.choose(self.list.saturating_add(LISTS.len() - 1)),
            Key::List(number) => self.choose(number.saturating_sub(1)),
            Key::Help => self.help = true,
            Key::Quit => return Act::Quit,
        }
        self.scrolled = self.scrolled.min(lines.saturating_sub(page.max(1)));
        Act::Nothing
    }

    fn choose(&mut self, list: usize) {
        (self.list, self.scrolled) = (list % LISTS.len(), 0);
    }

    /// Goes to another moment of a trace that is `end` long so far.
    fn travel(&mut self, key: Key, end: u64) -> Act {
        let step = (end / STEPS).max(1);
        let at = self.at_ns.unwrap_or(end);
        self.at_ns = match key {
            Key::Left => Some(at.saturating_sub(step)),
            Key::Right => Some(at.saturating_add(step)).filter(|at| *at < end),
            Key::Home => Some(0),
            _ => None,
        };
        Act::Show(self.at_ns)
    }
}
