//! `report FILE -o X.html`: a trace as one page.

use std::io::Write;
use std::path::Path;

use super::reading::{NamesArgs, cannot_write, unreadable, warn};
use crate::failure::{Code, Failure};
use crate::html;
use crate::store::OutputFile;

/// Ranges, threads and stacks that a page lists where nothing else is asked for.
pub(super) const TOP: usize = 100;

/// Writes the page of `files`, of which there is one.
pub(super) fn write(
    files: &[std::path::PathBuf],
    names: &NamesArgs,
    output: &Path,
    force: bool,
    top: usize,
) -> Result<Code, Failure> {
    let name = output.display();
    if !output.extension().is_some_and(|extension| extension == "html" || extension == "htm") {
        return Err(Failure::new(
            Code::Usage,
            format!("cannot write a report to {name}"),
            "a report is written as a page of HTML, and this name ends otherwise",
            "end the name with .html; for other forms: pagetrace-user export --help",
        ));
    }
    let [file] = files else {
        return Err(Failure::new(
            Code::Usage,
            format!("cannot write {} reports to {name}", files.len()),
            "a page is of one trace",
            "write one after the other, each with a name of its own",
        ));
    };
    let mut trace = names.open(file)?;
    let mut out = OutputFile::create(output, force).map_err(|error| cannot_write(output, &error))?;
    let page = html::page(&mut trace, top).map_err(|error| unreadable(file, &error))?;
    let written = out.write_all(page.html.as_bytes()).and_then(|()| out.finish());
    written.map_err(|error| cannot_write(output, &error))?;
    Ok(warn(file, &page.outcome))
}
