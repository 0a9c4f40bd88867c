//! The commands that read trace files: they need no privilege, no kernel and no process, only the file.
//!
//! *Errors.* A file that is no trace is a failure. A damaged or unfinished one is not: what could be read is shown, a
//! warning goes to stderr, and the exit code is that of a damaged file once all files were read.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};

use super::values;
use crate::check::check;
use crate::diff::Diff;
use crate::dump::{Filter, Stopped, dump, line};
use crate::event::Layer;
use crate::failure::{Code, Failure};
use crate::format::{Outcome, Trace};
use crate::frag::{Frag, measure};
use crate::input::{self, Input};
use crate::leaks::Leaks;
use crate::naming::Named;
use crate::replay::fold;
use crate::rss::{Rss, Together};
use crate::scav::Scav;
use crate::stacks::{Of, Profile, weigh};
use crate::units::Nanos;

const OUT_BYTES: usize = 1 << 18;
/// Lines of a list where nothing else is asked for.
pub(super) const TOP: usize = 10;
/// Where names come from that a recording could not find.
#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    /// Name what the recording could not, by the programs and debug files below DIR that have the build ids of the trace
    #[arg(long, value_name = "DIR", value_parser = values::directory)]
    #[arg(env = "PAGETRACE_SYMBOLS", hide_env = true)]
    symbols: Option<PathBuf>,
}

/// What the commands have in common that list something of each file.
#[derive(Debug, Args)]
pub(super) struct Listing {
    /// Trace files; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub names: NamesArgs,

    /// Lines or stacks to list
    #[arg(long, value_name = "N", default_value_t = TOP)]
    #[arg(env = "PAGETRACE_TOP", hide_env = true)]
    top: usize,

    /// Print one JSON object for each file, one a line, with every line or stack
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,
}

/// A list that is told whole, or its first lines.
pub(super) trait Lines {
    fn json(&self) -> String;
    fn text(&self, top: usize) -> String;
}

macro_rules! lines {
    ($($list:ty),+) => {
        $(impl Lines for $list {
            fn json(&self) -> String {
                <$list>::json(self)
            }

            fn text(&self, top: usize) -> String {
                <$list>::text(self, top)
            }
        })+
    };
}
lines!(Profile, Leaks, Frag, Rss, Together, Scav);

impl NamesArgs {
    /// For what names no functions.
    pub(super) fn none() -> NamesArgs {
        NamesArgs { symbols: None }
    }

    /// Opens a trace.
    pub(super) fn open(&self, path: &Path) -> Result<Named<Input>, Failure> {
        Ok(Named::new(input::open(path)?, self.symbols.as_deref()))
    }
}

/// `dump FILE...`
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Trace files, also page traces of the Go runtime (.pt); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Only events of this layer; repeatable, or a list: vma,page
    #[arg(long, value_name = "LAYER", value_parser = layer, value_delimiter = ',', action = ArgAction::Append)]
    #[arg(env = "PAGETRACE_LAYER", hide_env = true)]
    layer: Vec<Layer>,

    /// Only events of this kind; repeatable, or a list: alloc,free,scav
    #[arg(long, value_name = "KIND", value_parser = line::KINDS, value_delimiter = ',', action = ArgAction::Append)]
    #[arg(env = "PAGETRACE_KIND", hide_env = true)]
    kind: Vec<String>,

    /// Print one JSON object for each event, one a line
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,
}

/// `check FILE...`
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Trace files, also page traces of the Go runtime (.pt); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print one JSON object for each file, one a line
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,
}

/// `stacks FILE...`
#[derive(Debug, Args)]
pub(super) struct StacksArgs {
    /// What is weighed: resident memory by who touched it first, by who mapped it, by both; memory that had been given
    /// back and is resident again; page faults; the page heap in use; or objects that
    /// live
    #[arg(long, value_name = "WHAT", value_parser = of(), default_value = "resident")]
    #[arg(env = "PAGETRACE_OF", hide_env = true)]
    of: Of,

    /// What is there so long after the first event, not at the end
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_AT", hide_env = true)]
    at: Option<Duration>,

    #[command(flatten)]
    listing: Listing,
}

/// `leaks FILE...`
#[derive(Debug, Args)]
pub(super) struct LeaksArgs {
    /// Only objects that were given at least so long before the end
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "0s")]
    #[arg(env = "PAGETRACE_OLDER_THAN", hide_env = true)]
    older_than: Duration,

    #[command(flatten)]
    listing: Listing,
}

/// `frag FILE...`
#[derive(Debug, Args)]
pub(super) struct FragArgs {
    /// Charge only objects that were given at least so long before the end
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "0s")]
    #[arg(env = "PAGETRACE_OLDER_THAN", hide_env = true)]
    older_than: Duration,

    #[command(flatten)]
    listing: Listing,
}

/// `diff BEFORE AFTER`
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The earlier trace file
    #[arg(value_name = "BEFORE")]
    before: PathBuf,

    /// The later one; without it, and with --from, the earlier one at its end
    #[arg(value_name = "AFTER", required_unless_present = "from")]
    after: Option<PathBuf>,

    /// What is weighed, as of the command stacks
    #[arg(long, value_name = "WHAT", value_parser = of(), default_value = "resident")]
    #[arg(env = "PAGETRACE_OF", hide_env = true)]
    of: Of,

    /// Before: what is there so long after the first event
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_FROM", hide_env = true)]
    from: Option<Duration>,

    /// After: what is there so long after the first event
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_TO", hide_env = true)]
    to: Option<Duration>,

    /// Stacks to list
    #[arg(long, value_name = "N", default_value_t = TOP)]
    #[arg(env = "PAGETRACE_TOP", hide_env = true)]
    top: usize,

    #[command(flatten)]
    names: NamesArgs,

    /// Print one JSON object, with every stack that changed
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,
}

pub(super) fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// What stacks are weighed by, as a word.
pub(super) fn of() -> impl TypedValueParser<Value = Of> {
    PossibleValuesParser::new(Of::ALL.map(|(word, _)| word))
        .map(|word| Of::ALL.iter().find(|(known, _)| *known == word).map_or(Of::Resident, |(_, of)| *of))
}

fn layer(word: &str) -> Result<Layer, String> {
    Layer::ALL.iter().copied().find(|layer| layer.word() == word).ok_or_else(|| {
        let words: Vec<&str> = Layer::ALL.iter().map(|layer| layer.word()).collect();
        format!("there is no such layer: take one of {}", words.join(", "))
    })
}

impl Listing {
    /// Tells of each file what `tell` makes of it.
    pub(super) fn each<T: Lines>(
        &self,
        mut tell: impl FnMut(&mut Named<Input>) -> io::Result<(T, Outcome)>,
    ) -> Result<Code, Failure> {
        each(&self.files, &self.names, self.json, |path, reader, out| {
            let (lines, outcome) = tell(reader).map_err(Stopped::Read)?;
            out.write_all(self.shown(&lines).as_bytes())?;
            Ok(warn(path, &outcome))
        })
    }

    /// As it was asked for.
    pub(super) fn shown(&self, lines: &impl Lines) -> String {
        if self.json { lines.json() + "\n" } else { lines.text(self.top) }
    }
}

impl StacksArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        self.listing
            .each(|reader| weigh(reader, self.of, self.at.map(nanos)).map(|(_, profile, outcome)| (profile, outcome)))
    }
}

impl LeaksArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        self.listing.each(|reader| {
            let (state, outcome) = fold(reader)?;
            Ok((Leaks::new(reader.header(), &state, nanos(self.older_than)), outcome))
        })
    }
}

impl FragArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        self.listing.each(|reader| measure(reader, nanos(self.older_than)))
    }
}

impl DiffArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        let mut worst = Code::Complete;
        let mut weighed = |path: &Path, at: Option<Duration>| {
            let mut reader = self.names.open(path)?;
            let (_, profile, outcome) =
                weigh(&mut reader, self.of, at.map(nanos)).map_err(|error| unreadable(path, &error))?;
            if warn(path, &outcome) as u8 > worst as u8 {
                worst = Code::Damaged;
            }
            Ok::<_, Failure>(profile)
        };
        let before = weighed(&self.before, self.from)?;
        let after = weighed(self.after.as_ref().unwrap_or(&self.before), self.to)?;
        let diff = Diff::new(&before, &after);
        let text = if self.json { diff.json() + "\n" } else { diff.text(self.top) };
        super::print(&text).map(|code| if code as u8 > worst as u8 { code } else { worst })
    }
}

impl DumpArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        let filter = Filter { layers: self.layer.clone(), kinds: self.kind.clone() };
        each(&self.files, &NamesArgs::none(), self.json, |path, reader, out| {
            let outcome = dump(reader, &filter, self.json, out)?;
            Ok(warn(path, &outcome))
        })
    }
}

impl CheckArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        each(&self.files, &NamesArgs::none(), self.json, |path, reader, out| {
            let found = check(reader).map_err(Stopped::Read)?;
            out.write_all(if self.json { found.json() + "\n" } else { found.text() }.as_bytes())?;
            out.flush()?;
            warn(path, &reader.outcome());
            Ok(found.code())
        })
    }
}

/// Does the same to every file. The worst code of all is the code: damage before a broken balance before success.
pub(super) fn each(
    files: &[PathBuf],
    names: &NamesArgs,
    json: bool,
    mut act: impl FnMut(&Path, &mut Named<Input>, &mut BufWriter<io::StdoutLock<'static>>) -> Result<Code, Stopped>,
) -> Result<Code, Failure> {
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    let mut worst = Code::Complete;
    for (index, path) in files.iter().enumerate() {
        let mut reader = names.open(path)?;
        let title = if files.len() < 2 || json { Ok(()) } else { title(&mut out, index, path) };
        let done = title.map_err(Stopped::Write).and_then(|()| act(path, &mut reader, &mut out));
        match done.and_then(|code| out.flush().map(|()| code).map_err(Stopped::Write)) {
            Ok(code) if code as u8 > worst as u8 => worst = code,
            Ok(_) => {}
            Err(Stopped::Write(error)) => return super::finish(Err(error)),
            Err(Stopped::Read(error)) => return Err(unreadable(path, &error)),
        }
    }
    Ok(worst)
}

/// A file that was asked for and cannot be written.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let fix = match error.kind() {
        io::ErrorKind::AlreadyExists => "give another name, or --force to overwrite it",
        io::ErrorKind::NotFound => "make its directory first",
        _ => "name a place that can be written",
    };
    Failure::new(Code::Failed, format!("cannot write {}", path.display()), error.to_string(), fix)
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot read {}", path.display()), error.to_string(), "")
}

fn title(out: &mut impl Write, index: usize, path: &Path) -> io::Result<()> {
    writeln!(out, "{}== {}", if index > 0 { "\n" } else { "" }, path.display())
}

/// Tells on stderr that the file is not whole, and gives the exit code that says so.
pub(super) fn warn(path: &Path, outcome: &Outcome) -> Code {
    let why = match (&outcome.damage, &outcome.trailer) {
        (Some(damage), _) => format!("is damaged at byte {}: {}", damage.offset, damage.why),
        (None, _) if outcome.is_whole() => return Code::Complete,
        (None, _) if outcome.go.is_some() => "is unfinished: its last buffers were never written".to_owned(),
        (None, _) => "is unfinished: it has no trailer".to_owned(),
    };
    // Nobody is left to be told when stderr is gone; the exit code still says it.
    let _ = writeln!(
        io::stderr().lock(),
        "warning: {} {why}; {} events before that were read",
        path.display(),
        outcome.events
    );
    Code::Damaged
}
