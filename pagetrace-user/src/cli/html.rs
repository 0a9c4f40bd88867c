//! `report FILE -o X.html`: a trace as one page.

use std::path::PathBuf;

use super::output::Output;
use super::reading::NamesArgs;
use crate::failure::{Code, Failure};
use crate::html;

/// Ranges, threads and stacks that a page lists where nothing else is asked for.
pub(super) const TOP: usize = 100;

/// Writes the page of `files`, of which there is one.
pub(super) fn write(files: &[PathBuf], names: &NamesArgs, output: Output<'_>, top: usize) -> Result<Code, Failure> {
    if !output.path.extension().is_some_and(|extension| extension == "html" || extension == "htm") {
        return Err(Failure::new(
            Code::Usage,
            format!("cannot write a report to {}", output.path.display()),
            "a report is written as a page of HTML, and this name ends otherwise",
            "end the name with .html; for other forms: pagetrace-user export --help",
        ));
    }
    output.write(files, names, |trace| {
        let page = html::page(trace, top)?;
        Ok((page.html.into_bytes(), page.outcome))
    })
}
