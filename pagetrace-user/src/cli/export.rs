//! `export FILE -o X`: a trace as the file of another tool.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use super::reading::{NamesArgs, cannot_write, unreadable, warn};
use super::values;
use crate::export::{Exported, Form, Stopped, export};
use crate::failure::{Code, Failure};
use crate::format::Trace;
use crate::stacks::Of;
use crate::store::OutputFile;
use crate::units::Bytes;

const OUT_BYTES: usize = 1 << 18;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Trace file, also a page trace of the Go runtime (.pt); - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// File to write; its extension says the form:
    /// .pt      the page trace of the Go runtime, from a trace with events of the heap layer
    /// .svg     a flame graph of what --of says
    /// .png     the same as a picture that does not change
    /// .folded  the same as lines for flame graph tools
    /// .pb.gz   the same as a profile of pprof
    /// .json    the same as a profile of speedscope
    /// .jsonl   every event, one JSON object a line
    /// .csv     every event, one row of a table
    /// .parquet the same as a table of Parquet; .stacks.parquet and .processes.parquet: their tables
    /// .pftrace counters of RSS, calls and heap samples for Perfetto
    /// heaptrack.X.gz, heaptrack.X.zst  the objects of allocators, for heaptrack
    #[arg(short, long, value_name = "X", required = true, verbatim_doc_comment)]
    #[arg(env = "PAGETRACE_OUTPUT", hide_env = true)]
    output: PathBuf,

    /// What is weighed where the form is one of stacks
    #[arg(long, value_name = "WHAT", value_parser = super::reading::of(), default_value = "resident")]
    #[arg(env = "PAGETRACE_OF", hide_env = true)]
    of: Of,

    #[command(flatten)]
    names: NamesArgs,

    /// Overwrite a file of the same name
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_FORCE", hide_env = true)]
    force: bool,
}

impl ExportArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        let name = self.output.display();
        let Some(form) = Form::of(&self.output) else {
            let name_of = |&(extension, form): &(&str, Form)| {
                format!("{}.{extension}", if form.is_of_objects() { "heaptrack.NAME" } else { "" })
            };
            let known: Vec<String> = Form::ALL.iter().map(name_of).collect();
            return Err(Failure::new(
                Code::Usage,
                format!("cannot export to {name}"),
                "its extension is none of those that say a form",
                format!("end the name with one of: {}", known.join(", ")),
            ));
        };
        let mut trace = self.names.open(&self.file)?;
        let cannot_write = |error: &io::Error| cannot_write(&self.output, error);
        let file = OutputFile::create(&self.output, self.force).map_err(|error| cannot_write(&error))?;
        let mut out = BufWriter::with_capacity(OUT_BYTES, file);
        let done = export(&mut trace, form, self.of, &mut out).map_err(|stopped| match stopped {
            Stopped::Write(error) => cannot_write(&error),
            Stopped::Read(error) => unreadable(&self.file, &error),
        })?;
        if form.needs_stacks() && done.stacks == 0 {
            return Err(no_stacks(&self.file, &self.output, form, self.of));
        }
        if done.events == 0 {
            return Err(nothing(&self.file, &self.output, form, done));
        }
        let written = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(OutputFile::finish);
        written.map_err(|error| cannot_write(&error))?;
        let code = warn(&self.file, &trace.outcome());
        // Nobody is left to be told when stderr is gone; the file and the exit code still say it.
        if let Some(period) = done.period_bytes {
            let _ = writeln!(
                io::stderr().lock(),
                "note: the objects in {name} are samples, one in {} on average: their bytes are estimates, calls those of samples",
                Bytes(period)
            );
        }
        if done.unfit > 0 {
            let what = match form {
                Form::Go => "heap events: their pages do not fit its form",
                _ => "objects: more live at once than are held",
            };
            let _ = writeln!(io::stderr().lock(), "warning: {name} lacks {} {what}", done.unfit);
            return Ok(if code == Code::Complete { Code::Failed } else { code });
        }
        Ok(code)
    }
}

/// A trace in which nothing is to be weighed.
fn no_stacks(file: &Path, output: &Path, form: Form, of: Of) -> Failure {
    let why = if form.is_of_stacks() {
        format!("nothing in it counts as `--of {}`", of.word())
    } else {
        "no stacks were recorded".to_owned()
    };
    let (file, output) = (file.display(), output.display());
    Failure::new(
        Code::Failed,
        format!("cannot export {file} to {output}"),
        why,
        format!("see what it has: pagetrace-user report {file}"),
    )
}

/// A trace without a single event that the form knows.
fn nothing(file: &Path, output: &Path, form: Form, done: Exported) -> Failure {
    let mut fix = format!("see what it has: pagetrace-user report {}", file.display());
    let why = match done {
        Exported { others, .. } if form.is_of_objects() => {
            "record with --objects".clone_into(&mut fix);
            format!(
                "it has no objects of allocators, and {others} events of other layers, which that form does not know"
            )
        }
        _ if form != Form::Go => "it has no events".to_owned(),
        Exported { unfit: 0, others, .. } => {
            format!("it has no events of the heap layer, and {others} of other layers, which that form does not know")
        }
        Exported { unfit, .. } => format!("none of its {unfit} heap events fits that form"),
    };
    let (file, output) = (file.display(), output.display());
    Failure::new(Code::Failed, format!("cannot export {file} to {output}"), why, fix)
}
