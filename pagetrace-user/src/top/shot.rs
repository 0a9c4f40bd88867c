//! A state, and what there is to see of it.
//!
//! *Cost.* A shot walks over all resident pages once for the books and once for each list.

use std::io;

use crate::event::{Event, Header};
use crate::format::{Outcome, Trace};
use crate::html::timeline::Growing;
use crate::replay::{Class, Ledger, Moment, State, Window, difference, fold_within};
use crate::rss::{Before, By, Look, Rss};
use crate::units::{Nanos, Pages};

/// The lists, in the order of their keys.
pub const LISTS: [By; 4] = [By::Range, By::Stack, By::Thread, By::File];

/// How far the file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    Complete,
    /// Without an end: still written, or left by a recorder that was killed.
    Unfinished,
    Damaged(String),
}

impl FileState {
    #[must_use]
    pub fn of(outcome: &Outcome) -> FileState {
        match &outcome.damage {
            Some(damage) => FileState::Damaged(format!("damaged at byte {}: {}", damage.offset, damage.why)),
            None if outcome.is_whole() => FileState::Complete,
            None => FileState::Unfinished,
        }
    }
}

/// A class of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLine {
    pub class: &'static str,
    pub bytes: u64,
    pub change_bytes: Option<i64>,
}

/// All that there is to see of one moment. Times count from the first event.
#[derive(Clone, Debug, PartialEq)]
pub struct Shot {
    pub comm: String,
    pub tgid: u32,
    pub at_ns: u64,
    pub end_ns: u64,
    pub file: FileState,
    pub ended: bool,
    pub rss_bytes: u64,
    pub change_bytes: Option<i64>,
    pub classes: Vec<ClassLine>,
    pub unexplained_bytes: i64,
    pub lost: u64,
    pub anomalies: u64,
    /// By [`LISTS`].
    pub lists: [Rss; 4],
    pub course: Vec<Step>,
}

/// A time in which the RSS was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from_ns: u64,
    pub highest_bytes: u64,
    pub last_bytes: u64,
}

/// What was there at one moment.
struct Looks {
    lists: [Look; 4],
    ledger: Ledger,
}

impl Looks {
    fn at(state: &State) -> Looks {
        Looks { lists: LISTS.map(|by| Look::at(state, by)), ledger: state.ledger() }
    }
}

/// A fold, and the moments of it that a shot needs.
#[derive(Default)]
pub struct Folding {
    state: State,
    moments: Moments,
    course: Growing,
}

/// Looks at a state, kept.
#[derive(Default)]
struct Moments {
    before: Option<[Before; 4]>,
    end: Option<Looks>,
}

impl Moments {
    /// Keeps what is needed of this moment.
    fn keep(&mut self, state: &State, moment: Moment) {
        match moment {
            Moment::Base => self.before = Some(LISTS.map(|by| Before::at(state, by))),
            Moment::End => self.end = Some(Looks::at(state)),
        }
    }

    /// The shot of a state that may have gone on since.
    fn shot(&self, header: &Header, state: &State, outcome: &Outcome) -> Shot {
        let fresh;
        let looks = match &self.end {
            Some(looks) if state.ended() || state.is_cut() => looks,
            _ => {
                fresh = Looks::at(state);
                &fresh
            }
        };
        let ledger = &looks.ledger;
        let base = state.base().map(|base| base.ledger);
        let from = state.tally().first.unwrap_or_default();
        let mut before = self.before.as_ref().map(|before| before.iter());
        let mut now = looks.lists.iter();
        let empty = Look::default();
        let lists = LISTS.map(|by| {
            let before = before.as_mut().and_then(Iterator::next);
            Rss::between(header, state, by, before, now.next().unwrap_or(&empty))
        });
        let (comm, _) = state.image().unwrap_or((&header.comm, &header.exe));
        let rss = ledger.rss().bytes();
        Shot {
            comm: comm.to_owned(),
            tgid: header.tgid,
            at_ns: ledger.at.since(from).0,
            end_ns: state.now().since(from).0,
            file: FileState::of(outcome),
            ended: state.ended(),
            rss_bytes: rss.0,
            change_bytes: base.map(|base| difference(base.rss().bytes(), rss)),
            classes: Class::ALL.map(|class| class_line(class, ledger, base.as_ref())).to_vec(),
            unexplained_bytes: ledger.unexplained(),
            lost: state.tally().lost,
            anomalies: state.anomalies().iter().map(|anomaly| anomaly.count).fold(0, u64::saturating_add),
            lists,
            course: Vec::new(),
        }
    }
}

impl Shot {
    /// What there was so long after the first event of a trace, without its course and end.
    ///
    /// # Errors
    /// When the source cannot be read. Damage is not an error: it is in the shot.
    pub fn at(trace: &mut impl Trace, at: Nanos) -> io::Result<Shot> {
        let mut moments = Moments::default();
        let window = Window { since: None, at: Some(at) };
        let (state, outcome) = fold_within(trace, window, |state, moment| moments.keep(state, moment))?;
        Ok(moments.shot(trace.header(), &state, &outcome))
    }
}

impl Folding {
    /// The next event of the trace.
    pub fn apply(&mut self, event: &Event) {
        let Folding { state, moments, course } = self;
        state.apply_with(event, &mut |state, moment| moments.keep(state, moment));
        course.after(state, event);
    }

    /// The trace has ended; `whole`: as it should.
    pub fn finish(&mut self, whole: bool) {
        self.state.finish(whole);
    }

    /// Whether a look would see a part of a reading.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.state.is_reading()
    }

    /// The time of the last event since the first.
    #[must_use]
    pub fn so_far(&self) -> Nanos {
        self.state.now().since(self.state.tally().first.unwrap_or_default())
    }

    /// What there is now.
    pub fn shot(&mut self, header: &Header, outcome: &Outcome) -> Shot {
        let moments = &mut self.moments;
        self.state.look_at_base(&mut |state, moment| moments.keep(state, moment));
        let mut shot = self.moments.shot(header, &self.state, outcome);
        shot.course = self.course();
        shot
    }

    /// The RSS over time.
    #[must_use]
    pub fn course(&self) -> Vec<Step> {
        let timeline = self.course.clone().finish();
        let bytes = |levels: &[u64]| Pages(levels.iter().take(3).copied().fold(0, u64::saturating_add)).bytes().0;
        let step = |row: &Vec<u64>| {
            let (bucket, rest) = row.split_first()?;
            let (highest, rest) = rest.split_at_checked(4)?;
            let last = rest.get(1..).filter(|last| !last.is_empty()).unwrap_or(highest);
            Some(Step {
                from_ns: bucket.saturating_mul(timeline.width_ns),
                highest_bytes: bytes(highest),
                last_bytes: bytes(last),
            })
        };
        timeline.levels.iter().filter_map(step).collect()
    }
}

fn class_line(class: Class, now: &Ledger, base: Option<&Ledger>) -> ClassLine {
    let bytes = now.class(class).bytes();
    let change_bytes = base.map(|base| difference(base.class(class).bytes(), bytes));
    ClassLine { class: class.word(), bytes: bytes.0, change_bytes }
}
