//! The page itself: everything put into its template.

use askama::Template;

use super::fold::Folded;
use super::ledger::{self, Figure};
use super::tables::{self, Leak, Return, Table};
use super::trust::Trust;
use super::{Drawn, arenas, shown};
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
    /// To the parts of the page: id and word.
    links: Vec<(&'static str, &'static str)>,
    figures: Vec<Figure>,
    trust: Trust,
    ledger: Option<Table>,
    ledger_notes: Vec<String>,
    returns: Vec<Return>,
    sections: Vec<Vec<Table>>,
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
    let mut page = Page {
        title: ledger::title(report),
        report,
        command: report.cmdline.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" "),
        exe: shown(&report.exe),
        system: system(report),
        length: span(report.from_ns, report.to_ns),
        wall: utc(report.from_wall_ns),
        links: Vec::new(),
        figures: ledger::figures(report),
        trust: Trust::of(report),
        ledger: ledger::table(report),
        ledger_notes: ledger::notes(report),
        returns: tables::returns(report),
        sections: sections(report),
        movers: tables::movers(report),
        counts: report.go.is_none().then(|| tables::counts(report)),
        leaks: folded.leaks.as_ref().map(|leaks| tables::leaks(leaks, MOST_LEAKS)),
        has_flames: !folded.drawn.flames.is_empty(),
        has_heat: !folded.drawn.heat.blocks.is_empty(),
        data: embedded(&folded.drawn),
        css: include_str!("../../templates/report.css"),
        js: include_str!("../../templates/report.js"),
    };
    page.links = page.parts();
    page.render()
}

/// What allocators tell, those that do.
fn sections(report: &Report) -> Vec<Vec<Table>> {
    let (arenas, objects) = (arenas::arenas(report), tables::objects(report));
    let all = [arenas::uses(report), arenas.into_iter().collect(), tables::heap(report), objects.into_iter().collect()];
    all.into_iter().filter(|tables: &Vec<Table>| !tables.is_empty()).collect()
}

impl Page<'_> {
    fn parts(&self) -> Vec<(&'static str, &'static str)> {
        const WORDS: [(&str, &str); 15] = [
            ("trust", "Trust"),
            ("ledger", "Ledger"),
            ("time", "Over time"),
            ("returned", "Came back"),
            ("allocators", "Allocators"),
            ("arenas", "Arenas"),
            ("heap", "Page heap"),
            ("objects", "Objects"),
            ("stacks", "Stacks"),
            ("addresses", "Addresses"),
            ("actors", "Other tasks"),
            ("ranges", "Ranges"),
            ("threads", "Threads"),
            ("leaks", "Leaks"),
            ("counts", "Counts"),
        ];
        let has_table = |id: &str| self.sections.iter().flatten().chain(&self.movers).any(|table| table.id == id);
        let is_there = |id: &str| match id {
            "returned" => !self.returns.is_empty(),
            "stacks" => self.has_flames,
            "addresses" => self.has_heat,
            "leaks" => self.leaks.is_some(),
            "counts" => self.counts.is_some(),
            "trust" | "ledger" | "time" => true,
            id => has_table(id),
        };
        WORDS.into_iter().filter(|(id, _)| is_there(id)).collect()
    }
}

/// What it was recorded with; a Go runtime's own trace does not tell.
fn system(report: &Report) -> String {
    if report.go.is_some() {
        return String::new();
    }
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
