//! Where the fields lie that probes read, in each version of Go.
//!
//! The numbers are those of the debug information that each release's own compiler writes; the tests compare them.
//! A release candidate, a development version and one newer than the last row may differ from all of them, and an
//! experiment may change any structure: they are [`Unverified`], and whoever asks decides what to do without.
//!
//! NOTE: Go 1.20 alone was not compared, for want of a toolchain. Its `g`, `m`, `p` and first half of `mspan` are those of
//! 1.19 and 1.21, which agree; the rest is counted from its source: `mspan` has no `pinnerBits` yet, `mheap` no padding
//! before `pages`, and `pageAlloc.scav` is the shortest of all (the index of 1.19, and `released`).

/// The last minor version in the table.
const NEWEST: u32 = 27;

/// Where fields lie, in bytes from the start of their structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoOffsets {
    /// `g.m`, a pointer.
    pub g_m: u32,
    /// `g.goid`, eight bytes.
    pub g_goid: u32,
    /// `m.curg`, a pointer: the goroutine for whom the `m` is at work on its own stack.
    pub m_curg: u32,
    /// `m.p`, a pointer, zero when it has none.
    pub m_p: u32,
    /// `p.id`, four bytes.
    pub p_id: u32,
    /// `p.pcache`, a structure of three times eight bytes: the first page's address, which of 64 pages are free, which of
    /// them were given back.
    pub p_page_cache: u32,
    /// `mspan.startAddr`, eight bytes.
    pub span_start: u32,
    /// `mspan.npages`, eight bytes.
    pub span_pages: u32,
    /// `mspan.allocCount`, two bytes: objects in use.
    pub span_alloc_count: u32,
    /// `mspan.spanclass`, one byte.
    pub span_class: u32,
    /// `mspan.state`, one byte: 0 dead, 1 in use by the heap, 2 in use by hand (stacks and the runtime's own).
    pub span_state: u32,
    /// `mspan.elemsize`, eight bytes.
    pub span_elem_size: u32,
    /// `mheap.pages`, a structure.
    pub heap_pages: u32,
    /// `mheap.allspans`, a slice: a pointer, then its length.
    pub heap_all_spans: u32,
    /// `moduledata.gofunc`, a pointer: what tables of functions count from.
    pub module_gofunc: u32,
}

/// Why the offsets are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("the program does not tell its version of Go")]
    NoVersion,
    #[error("{0} is older than Go 1.19")]
    Older(String),
    #[error("{0} is newer than Go 1.27, the last one that was compared")]
    Newer(String),
    #[error("{0} is not a release")]
    NotARelease(String),
    #[error("built with the experiment {0}, which was not compared")]
    Experiment(String),
}

/// What most versions have, as Go 1.22 does.
const COMMON: GoOffsets = GoOffsets {
    g_m: 0x30,
    g_goid: 0x98,
    m_curg: 0xc0,
    m_p: 0xd0,
    p_id: 0,
    p_page_cache: 0x48,
    span_start: 0x18,
    span_pages: 0x20,
    span_alloc_count: 0x60,
    span_class: 0x62,
    span_state: 0x63,
    span_elem_size: 0x68,
    heap_pages: 0x8,
    heap_all_spans: 0x10148,
    module_gofunc: 0x140,
};

/// Each minor version with its offsets. They did not change within one.
const ROWS: &[(u32, GoOffsets)] = &[
    (19, GoOffsets { heap_pages: 0x10, heap_all_spans: 0x10140, module_gofunc: 0x130, ..COMMON }),
    (20, GoOffsets { heap_all_spans: 0x10120, ..COMMON }),
    (21, GoOffsets { span_alloc_count: 0x68, span_class: 0x6a, span_state: 0x6b, span_elem_size: 0x70, ..COMMON }),
    (22, COMMON),
    (23, GoOffsets { g_goid: 0xa0, p_page_cache: 0x40, ..COMMON }),
    (24, GoOffsets { g_goid: 0xa0, p_page_cache: 0x40, ..COMMON }),
    (25, GoOffsets { m_curg: 0xb8, m_p: 0xc8, p_page_cache: 0x40, ..COMMON }),
    (26, GoOffsets { m_curg: 0xb8, p_page_cache: 0x40, ..COMMON }),
    (NEWEST, GoOffsets { m_curg: 0xb8, p_page_cache: 0x40, module_gofunc: 0x158, ..COMMON }),
];

/// Experiments, or without `no` their absence, that leave these structures as they are: compared in a release that has
/// them. `staticlockranking` for one does not.
const HARMLESS_EXPERIMENTS: &[&str] = &[
    "aliastypeparams",
    "arenas",
    "boringcrypto",
    "goroutineleakprofile",
    "greenteagc",
    "jsonv2",
    "loopvar",
    "mapsplitgroup",
    "noaliastypeparams",
    "noallocheaders",
    "nodwarf5",
    "noexectracer2",
    "nogreenteagc",
    "nojsonv2",
    "norandomizedheapbase64",
    "nosizespecializedmalloc",
    "nospinbitmutex",
    "noswissmap",
    "nosynchashtriemap",
    "pagetrace",
    "rangefunc",
    "runtimefreegc",
    "runtimesecret",
    "simd",
    "synctest",
];

/// The offsets of a version as a program gives it.
///
/// # Errors
/// When nobody has compared them.
pub fn of(version: &str) -> Result<GoOffsets, Unverified> {
    // Experiments stand behind a space, since Go 1.26 behind a hyphen, and may follow a vendor's suffix.
    let (release, experiments) = version.split_once("X:").unwrap_or((version, ""));
    let release = release.trim_end_matches([' ', '-']);
    if release.is_empty() || release == "unknown" {
        return Err(Unverified::NoVersion);
    }
    let minor = minor_of(release).ok_or_else(|| Unverified::NotARelease(version.to_owned()))?;
    let names = experiments.split([',', ' ', '-']).filter(|name| !name.is_empty());
    if let Some(unknown) = names.into_iter().find(|name| !HARMLESS_EXPERIMENTS.contains(name)) {
        return Err(Unverified::Experiment(unknown.to_owned()));
    }
    let row = ROWS.iter().find(|(known, _)| *known == minor).map(|(_, offsets)| *offsets);
    row.ok_or_else(|| match minor {
        ..=NEWEST => Unverified::Older(version.to_owned()),
        _ => Unverified::Newer(version.to_owned()),
    })
}

/// The minor version of a release: 22 of `go1.22`, `go1.22.10` and a vendor's `go1.22.10-x` or `go1.22.10 x`. `None` for anything else,
/// release candidates and development versions (`go1.27-devel_...`) among it.
fn minor_of(release: &str) -> Option<u32> {
    let rest = release.strip_prefix("go1.").filter(|rest| !rest.contains("devel"))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (minor, rest) = rest.split_at_checked(digits)?;
    (rest.is_empty() || rest.starts_with(['.', '-', '+', ' '])).then(|| minor.parse().ok())?
}
