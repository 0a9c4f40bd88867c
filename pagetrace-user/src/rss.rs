//! What is resident, by one question at a time: how much, how much more than before, and for how long.
//!
//! Every page counts once, so that the lines and what is unexplained add up to the RSS, whatever it is told by.
//!
//! *Units.* Bytes; ages in ns until the moment that is told. A page that a reading found is as old as that reading at least.

mod text;
mod together;

use std::collections::{BTreeMap, HashMap};
use std::io;

use serde::Serialize;

use crate::event::{Header, Member};
use crate::format::{Outcome, Trace};
use crate::replay::mappings::Mapping;
use crate::replay::resident::{MakerId, Page};
use crate::replay::{Class, Ledger, Moment, State, Window, difference, fold_within};
use crate::stacks::{Frame, Toucher};
use crate::units::{Bytes, Nanos, PAGE_BYTES, Pages};

pub use together::{Adding, Together};

/// What pages are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// What they are for.
    Class,
    /// The stack that touched them first.
    Stack,
    /// The mapping.
    Range,
    /// The task that made them resident.
    Thread,
    /// The file that is mapped, or what else a mapping is called.
    File,
    /// How long they have been resident.
    Age,
}

impl By {
    /// Every one, with its word on the command line.
    pub const ALL: [(&'static str, By); 6] = [
        ("class", By::Class),
        ("stack", By::Stack),
        ("range", By::Range),
        ("thread", By::Thread),
        ("file", By::File),
        ("age", By::Age),
    ];
}

/// Pages of one answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub what: String,
    pub bytes: u64,
    /// Since the baseline; `None` where there is none, and by age.
    pub change_bytes: Option<i64>,
    /// Half of the bytes are at least so old; `None` where no page is.
    pub median_age_ns: Option<u64>,
    pub oldest_ns: Option<u64>,
    /// By stack: the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
}

/// All answers, the largest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rss {
    pub comm: String,
    pub tgid: u32,
    pub by: By,
    /// Since the first event.
    pub at_ns: u64,
    /// Where changes are counted from; `None`: the trace has no reading of all pages.
    pub since_ns: Option<u64>,
    pub rss_bytes: u64,
    pub change_bytes: Option<i64>,
    pub lines: Vec<Line>,
    pub unexplained_bytes: i64,
    pub lost: u64,
}

/// What a page is told by: the same for pages of one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Class(Class),
    Stack(Toucher),
    Range {
        start: u64,
        label: String,
    },
    Thread(MakerId),
    File(String),
    Age(usize),
    /// Known by the kernel's counter alone.
    Unplaced(Member),
}

/// Upper ends of ages, and their words.
const AGES: [(u64, &str); 6] = [
    (1, "younger than 1 s"),
    (10, "1 s to 10 s"),
    (60, "10 s to 1 min"),
    (600, "1 min to 10 min"),
    (3600, "10 min to 1 h"),
    (u64::MAX, "1 h and older"),
];

/// What is resident at one moment.
#[derive(Default)]
pub struct Look {
    /// By key, since when each page has been.
    pages: BTreeMap<Key, Vec<Nanos>>,
    /// By key, what the kernel's counters say beyond them.
    unplaced: BTreeMap<Key, Pages>,
    ledger: Ledger,
}

/// What was resident where changes are counted from.
pub struct Before(BTreeMap<Key, Bytes>);

impl Rss {
    /// Folds a trace, and tells what there is in this window.
    ///
    /// # Errors
    /// When the source cannot be read. Damage is not an error: it is in the outcome.
    pub fn of(trace: &mut impl Trace, by: By, window: Window) -> io::Result<(Rss, Outcome)> {
        let (mut before, mut now) = (None, Look::default());
        let (state, outcome) = fold_within(trace, window, |state, moment| match moment {
            Moment::Base => before = Some(Before::at(state, by)),
            Moment::End => now = Look::at(state, by),
        })?;
        Ok((Rss::between(trace.header(), &state, by, before.as_ref(), &now), outcome))
    }

    /// Tells of two moments of a state that has gone on since, and knows more names.
    #[must_use]
    pub fn between(header: &Header, state: &State, by: By, before: Option<&Before>, now: &Look) -> Rss {
        let from = state.tally().first.unwrap_or_default();
        let (comm, _) = state.image().unwrap_or((&header.comm, &header.exe));
        let lines = lines(state, before, now);
        let told = lines.iter().map(|line| line.bytes).fold(0, u64::saturating_add);
        let rss = now.ledger.rss().bytes();
        let base = state.base().map(|base| base.ledger);
        Rss {
            comm: comm.to_owned(),
            tgid: header.tgid,
            by,
            at_ns: now.ledger.at.since(from).0,
            since_ns: base.map(|base| base.at.since(from).0),
            rss_bytes: rss.0,
            change_bytes: base.map(|base| difference(base.rss().bytes(), rss)),
            lines,
            unexplained_bytes: difference(Bytes(told), rss),
            lost: state.tally().lost,
        }
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn json(&self) -> String {
        // SANITY: numbers, texts and lists of them always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Before {
    /// What is resident now. Cost: a walk over all resident pages.
    #[must_use]
    pub fn at(state: &State, by: By) -> Before {
        let look = Look::at(state, by);
        Before(look.keys().map(|key| (key.clone(), look.bytes(key))).collect())
    }

    fn bytes(&self, key: &Key) -> Bytes {
        self.0.get(key).copied().unwrap_or_default()
    }
}

impl Look {
    /// What is resident now. Cost: a walk over all resident pages.
    #[must_use]
    pub fn at(state: &State, by: By) -> Look {
        let mut look = Look { ledger: state.ledger(), ..Look::default() };
        // Pages of one mapping come one after the other.
        let mut groups: HashMap<Key, Vec<Nanos>> = HashMap::new();
        state.each_page(|_, page, mapping| {
            let Some((class, _)) = state.classify(mapping, page) else { return };
            groups.entry(key(state, by, class, page, mapping)).or_default().push(page.since);
        });
        look.pages = groups.into_iter().collect();
        for (member, class) in [(Member::File, Class::File), (Member::Shmem, Class::Shmem)] {
            let pages = look.ledger.unplaced(member);
            let key = if by == By::Class { Key::Class(class) } else { Key::Unplaced(member) };
            if pages.0 > 0 {
                look.unplaced.insert(key, pages);
            }
        }
        look
    }

    /// The books at that moment.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn bytes(&self, key: &Key) -> Bytes {
        let placed = self.pages.get(key).map_or(0, |pages| (pages.len() as u64).saturating_mul(PAGE_BYTES));
        let unplaced = self.unplaced.get(key).map_or(0, |pages| pages.bytes().0);
        Bytes(placed.saturating_add(unplaced))
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pages.keys().chain(self.unplaced.keys())
    }
}

fn key(state: &State, by: By, class: Class, page: Page, mapping: Option<&Mapping>) -> Key {
    let label = || mapping.map_or("[outside of every known mapping]".to_owned(), |mapping| state.label(mapping));
    match by {
        By::Class => Key::Class(class),
        By::Stack => Key::Stack(Toucher::of(state, page)),
        By::Range => Key::Range { start: mapping.map_or(0, |mapping| mapping.range.start), label: label() },
        By::Thread => Key::Thread(page.maker),
        By::File => Key::File(label()),
        By::Age => {
            let seconds = state.now().since(page.since).0 / 1_000_000_000;
            Key::Age(AGES.iter().position(|(end, _)| seconds < *end).unwrap_or(AGES.len() - 1))
        }
    }
}

/// Both moments, key by key.
fn lines(state: &State, before: Option<&Before>, now: &Look) -> Vec<Line> {
    let mut keys: Vec<&Key> = before.iter().flat_map(|before| before.0.keys()).chain(now.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut lines: Vec<Line> = keys
        .into_iter()
        .map(|key| {
            let bytes = now.bytes(key);
            let mut since = now.pages.get(key).cloned().unwrap_or_default();
            since.sort_unstable();
            let age = |since: Option<&Nanos>| since.map(|since| now.ledger.at.since(*since).0);
            let is_of_age = matches!(key, Key::Age(_));
            let change = before.filter(|_| !is_of_age).map(|before| difference(before.bytes(key), bytes));
            let (what, frames) = words(state, key);
            Line {
                what,
                bytes: bytes.0,
                change_bytes: change,
                median_age_ns: age(since.get(since.len().saturating_sub(1) / 2)),
                oldest_ns: age(since.first()),
                frames,
            }
        })
        .filter(|line| line.bytes > 0 || line.change_bytes.is_some_and(|change| change != 0))
        .collect();
    lines.sort_by(|a, b| {
        let size = |line: &Line| (line.bytes, line.change_bytes.map(i64::unsigned_abs));
        size(b).cmp(&size(a)).then_with(|| (&a.what, &a.frames).cmp(&(&b.what, &b.frames)))
    });
    lines
}

fn words(state: &State, key: &Key) -> (String, Vec<Frame>) {
    let what = match key {
        Key::Class(class) => class.word().to_owned(),
        Key::Stack(toucher) => {
            let frames = toucher.frames(state);
            let innermost = frames.last().map(|frame| frame.name.clone()).unwrap_or_default();
            return (innermost, frames);
        }
        Key::Range { start, label } => format!("{start:#x} {label}"),
        Key::Thread(maker) => thread(state, *maker),
        Key::File(label) => label.clone(),
        Key::Age(index) => AGES.get(*index).map_or(String::new(), |(_, word)| (*word).to_owned()),
        Key::Unplaced(member) => format!("[{} pages by the counter alone, place not known]", member.word()),
    };
    (what, Vec::new())
}

fn thread(state: &State, maker: MakerId) -> String {
    match state.makers().all().get(maker.0 as usize).map(|maker| maker.task) {
        Some(task) if maker != MakerId(0) => match task.actor {
            Some(actor) => format!("{} ({})", actor.comm.to_text(), task.tid.0),
            None => format!("thread {}", task.tid.0),
        },
        _ => "[before the recording, or without an event]".to_owned(),
    }
}
