//! The commands that tell of resident memory: all of it, or one question at a time.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};

use super::output::Output;
use super::reading::{Listing, NamesArgs, TOP, each, nanos, warn};
use super::{html, values};
use crate::dump::Stopped;
use crate::failure::{Code, Failure};
use crate::format::Trace;
use crate::replay::{Window, fold_within};
use crate::report::Report;
use crate::rss::{Adding, By, Rss};
use crate::scav::Scav;

/// `report FILE...`
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Trace files, also page traces of the Go runtime (.pt); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Ranges and threads to list [default: 10, in a page 100]
    #[arg(long, value_name = "N")]
    #[arg(env = "PAGETRACE_TOP", hide_env = true)]
    top: Option<usize>,

    /// What is there so long after the first event, not at the end
    #[arg(long, value_name = "TIME", value_parser = values::duration, conflicts_with = "html")]
    #[arg(env = "PAGETRACE_AT", hide_env = true)]
    at: Option<Duration>,

    /// Count changes, calls and faults from then on, so long after the first event
    #[arg(long, value_name = "TIME", value_parser = values::duration, conflicts_with = "html")]
    #[arg(env = "PAGETRACE_SINCE", hide_env = true)]
    since: Option<Duration>,

    #[command(flatten)]
    names: NamesArgs,

    /// Print one JSON object for each file, one a line
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,

    /// Write the report as a page of HTML instead: with its course over time, flame graphs and a map of the addresses,
    /// all in one file
    // NOTE: not `--output`: what PAGETRACE_OUTPUT says is where recordings go.
    #[arg(short = 'o', long, value_name = "X.html", conflicts_with = "json")]
    #[arg(env = "PAGETRACE_HTML", hide_env = true)]
    html: Option<PathBuf>,

    /// Overwrite a page of the same name
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_FORCE", hide_env = true)]
    force: bool,
}

/// `rss FILE...`
#[derive(Debug, Args)]
pub(super) struct RssArgs {
    /// What pages are told by: what they are for, the stack that touched them first, the mapping, the task that made them
    /// resident, the file that is mapped, or how long they have been resident
    #[arg(long, value_name = "WHAT", value_parser = by(), default_value = "class")]
    #[arg(env = "PAGETRACE_BY", hide_env = true)]
    by: By,

    /// What is there so long after the first event, not at the end
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_AT", hide_env = true)]
    at: Option<Duration>,

    /// Count changes from then on, so long after the first event
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_SINCE", hide_env = true)]
    since: Option<Duration>,

    /// What the processes of all files hold together at the end: a frame that more of them map counts once
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue, conflicts_with_all = ["by", "at", "since"])]
    #[arg(env = "PAGETRACE_TOGETHER", hide_env = true)]
    together: bool,

    #[command(flatten)]
    listing: Listing,
}

/// `scav FILE...`
#[derive(Debug, Args)]
pub(super) struct ScavArgs {
    /// What came back within this time was given back for nothing, and is told apart
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "1s")]
    #[arg(env = "PAGETRACE_WITHIN", hide_env = true)]
    within: Duration,

    #[command(flatten)]
    listing: Listing,
}

/// What pages are told by, as a word.
fn by() -> impl TypedValueParser<Value = By> {
    PossibleValuesParser::new(By::ALL.map(|(word, _)| word))
        .map(|word| By::ALL.iter().find(|(known, _)| *known == word).map_or(By::Class, |(_, by)| *by))
}

pub(super) fn window(since: Option<Duration>, at: Option<Duration>) -> Window {
    Window { since: since.map(nanos), at: at.map(nanos) }
}

impl ReportArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        if let Some(output) = &self.html {
            let output = Output { path: output, force: self.force, what: "a page" };
            return html::write(&self.files, &self.names, output, self.top.unwrap_or(html::TOP));
        }
        let window = window(self.since, self.at);
        each(&self.files, &self.names, self.json, |path, reader, out| {
            let (state, outcome) = fold_within(reader, window, |_, _| {}).map_err(Stopped::Read)?;
            let report = Report::new(reader.header(), &state, &outcome, self.top.unwrap_or(TOP));
            out.write_all(if self.json { report.json() + "\n" } else { report.text() }.as_bytes())?;
            Ok(warn(path, &outcome))
        })
    }
}

impl RssArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        if self.together {
            return self.together();
        }
        let window = window(self.since, self.at);
        self.listing.each(|reader| Rss::of(reader, self.by, window))
    }

    fn together(&self) -> Result<Code, Failure> {
        let (mut adding, files) = (Adding::default(), &self.listing.files);
        // Nothing is told of a file by itself: no titles.
        let read = each(files, &self.listing.names, true, |path, reader, _| {
            Ok(warn(path, &adding.add(reader).map_err(Stopped::Read)?))
        })?;
        let printed = super::print(&self.listing.shown(&adding.finish()))?;
        Ok(if printed as u8 > read as u8 { printed } else { read })
    }
}

impl ScavArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        self.listing.each(|reader| Scav::of(reader, nanos(self.within)))
    }
}
