//! `heat FILE`: addresses over time, on the terminal or as a picture.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::{ArgAction, Args};

use super::output::Output;
use super::reading::{NamesArgs, each, warn};
use super::report::window;
use super::values;
use crate::dump::Stopped;
use crate::failure::{Code, Failure};
use crate::heat::Heat;
use crate::picture::Form;

/// Columns where there is no terminal.
const WIDTH: usize = 100;

/// `heat FILE...`
#[derive(Debug, Args)]
pub(super) struct HeatArgs {
    /// Trace files, also page traces of the Go runtime (.pt); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// End so long after the first event
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_AT", hide_env = true)]
    at: Option<Duration>,

    /// Begin so long after the first event
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    #[arg(env = "PAGETRACE_SINCE", hide_env = true)]
    since: Option<Duration>,

    /// Ranges to draw: those that had the most [default: up to 10, without those that are too small to matter]
    #[arg(long, value_name = "N")]
    #[arg(env = "PAGETRACE_TOP", hide_env = true)]
    top: Option<usize>,

    /// Print one JSON object for each file, one a line, with every cell
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_JSON", hide_env = true)]
    json: bool,

    /// Write a picture instead: .svg or .png, as its extension says
    // NOTE: not `--output`: what PAGETRACE_OUTPUT says is where recordings go.
    #[arg(short = 'o', long, value_name = "X", conflicts_with = "json")]
    #[arg(env = "PAGETRACE_PICTURE", hide_env = true)]
    picture: Option<PathBuf>,

    /// Overwrite a picture of the same name
    #[arg(long, value_parser = values::flag, action = ArgAction::SetTrue)]
    #[arg(env = "PAGETRACE_FORCE", hide_env = true)]
    force: bool,
}

impl HeatArgs {
    pub(super) fn run(&self) -> Result<Code, Failure> {
        if let Some(picture) = &self.picture {
            return self.draw(picture);
        }
        let window = window(self.since, self.at);
        let has_colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        each(&self.files, &NamesArgs::none(), self.json, |path, reader, out| {
            let (heat, outcome) = Heat::of(reader, window).map_err(Stopped::Read)?;
            if self.json {
                writeln!(out, "{}", heat.json())?;
            } else {
                let text = heat.text(self.top, width());
                let plain = if has_colours { text } else { anstream::adapter::strip_str(&text).to_string() };
                out.write_all(plain.as_bytes())?;
            }
            Ok(warn(path, &outcome))
        })
    }

    fn draw(&self, picture: &Path) -> Result<Code, Failure> {
        let Some(form) = Form::of(picture) else {
            let known: Vec<String> = Form::ALL.iter().map(|(extension, _)| format!(".{extension}")).collect();
            return Err(Failure::new(
                Code::Usage,
                format!("cannot draw {}", picture.display()),
                "its extension is none of those that say a form",
                format!("end the name with one of: {}", known.join(", ")),
            ));
        };
        let output = Output { path: picture, force: self.force, what: "a picture" };
        output.write(&self.files, &NamesArgs::none(), |trace| {
            let (heat, outcome) = Heat::of(trace, window(self.since, self.at))?;
            let svg = heat.svg(self.top).map_err(io::Error::other)?;
            Ok((form.written(svg).map_err(io::Error::other)?, outcome))
        })
    }
}

/// Columns of the terminal.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col)).ok();
    columns.filter(|columns| *columns > 0).unwrap_or(WIDTH)
}
