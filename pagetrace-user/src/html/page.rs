//! The page itself: everything put into its template.

use askama::Template;

use super::fold::Folded;
use super::ledger::{self, Figure};
use super::tables::{self, Leak, Return, Table};
use super::trust::Trust;
use super::{Drawn, shown};
use crate::report::{Report, span, utc};

/// Stacks of leaks that are listed at most.
const MOST_LEAKS: usize = 50;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    report: &'a Report,
    command: String,
    exe: String,
    system: String,
    length: String,
    wall: String,
    figures: Vec<Figure>,
    trust: Trust,
    ledger: Option<Table>,
    ledger_notes: Vec<String>,
    returns: Vec<Return>,
    sections: Vec<Table>,
    movers: Vec<Table>,
    counts: Option<Table>,
    leaks: Option<(String, Vec<Leak>, usize)>,
    has_flames: bool,
    has_heat: bool,
    data: String,
    css: &'static str,
    js: &'static str,
}

/// The page as text.
///
/// # Errors
/// None that a trace could cause: only those of the template engine itself.
pub(super) fn render(folded: &Folded) -> Result<String, askama::Error> {
    let report = &folded.report;
    let page = Page {
        title: ledger::title(report),
        report,
        command: report.cmdline.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" "),
        exe: shown(&report.exe),
        system: system(report),
        length: span(report.from_ns, report.to_ns),
        wall: utc(report.from_wall_ns),
        figures: ledger::figures(report),
        trust: Trust::of(report),
        ledger: ledger::table(report),
        ledger_notes: ledger::notes(report),
        returns: tables::returns(report),
        sections: tables::heap(report).into_iter().chain(tables::objects(report)).collect(),
        movers: tables::movers(report),
        counts: report.go.is_none().then(|| tables::counts(report)),
        leaks: folded.leaks.as_ref().map(|leaks| tables::leaks(leaks, MOST_LEAKS)),
        has_flames: !folded.drawn.flames.is_empty(),
        has_heat: !folded.drawn.heat.blocks.is_empty(),
        data: embedded(&folded.drawn),
        css: include_str!("../../templates/report.css"),
        js: include_str!("../../templates/report.js"),
    };
    page.render()
}

fn system(report: &Report) -> String {
    let known = [("Linux", &report.kernel), ("pagetrace", &report.recorder)];
    let known = known.iter().filter(|(_, version)| !version.is_empty());
    known.map(|(name, version)| format!("{name} {}", shown(version))).collect::<Vec<_>>().join(", ")
}

/// As JSON that may stand in a page: none of its letters begins or ends an element or a comment.
fn embedded(drawn: &Drawn) -> String {
    // SANITY: a tree of strings, numbers and lists always serializes.
    let json = serde_json::to_string(drawn).unwrap_or_default();
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
