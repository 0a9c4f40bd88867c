//! The table of offsets against the debug information of programs by each toolchain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use pagetrace_user::symbols::go::offsets::{self, GoOffsets, Unverified};
use pagetrace_user::symbols::go::plan;

use super::toolchain::{PLAIN, VERSIONS, build, build_with, folder, go, output};

/// The members in the order of [`GoOffsets`]' fields, and those of the structure whose form the readers know.
const MEMBERS: [&str; 18] = [
    "g.m",
    "g.goid",
    "m.curg",
    "m.p",
    "p.id",
    "p.pcache",
    "mspan.startAddr",
    "mspan.npages",
    "mspan.allocCount",
    "mspan.spanclass",
    "mspan.state",
    "mspan.elemsize",
    "mheap.pages",
    "mheap.allspans",
    "moduledata.gofunc",
    "pageCache.base",
    "pageCache.cache",
    "pageCache.scav",
];

/// Those that touch the heap or the scheduler.
const EXPERIMENTS: [(&str, &str); 6] = [
    ("1.21.13", "pagetrace"),
    ("1.22.10", "pagetrace"),
    ("1.22.10", "noallocheaders"),
    ("1.25.5", "greenteagc"),
    ("1.26.6", "nogreenteagc"),
    ("1.27.3", "norandomizedheapbase64"),
];

fn in_order(of: &GoOffsets) -> [u32; 18] {
    let GoOffsets { g_m, g_goid, m_curg, m_p, p_id, p_page_cache, span_start, span_pages, span_class, .. } = *of;
    let GoOffsets { span_alloc_count, span_state, span_elem_size, heap_pages, heap_all_spans, module_gofunc, .. } = *of;
    [
        g_m,
        g_goid,
        m_curg,
        m_p,
        p_id,
        p_page_cache,
        span_start,
        span_pages,
        span_alloc_count,
        span_class,
        span_state,
        span_elem_size,
        heap_pages,
        heap_all_spans,
        module_gofunc,
        0,
        8,
        16,
    ]
}

/// The program that reads debug information, built once.
static READER: LazyLock<PathBuf> = LazyLock::new(reader);

/// Builds it by the newest toolchain.
fn reader() -> PathBuf {
    let program = folder("1.27.3").join("structures");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/symbols/structures.go");
    output(go("1.27.3").env("CGO_ENABLED", "0").arg("build").arg("-o").arg(&program).arg(source));
    program
}

fn told(program: &Path) -> [u32; 18] {
    let lines = output(Command::new(&*READER).arg(program).args(MEMBERS));
    let found: BTreeMap<&str, u32> =
        lines.lines().map(|line| line.split_once(' ').unwrap()).map(|(k, v)| (k, v.parse().unwrap())).collect();
    MEMBERS.map(|member| *found.get(member).unwrap_or_else(|| panic!("{member} of {}", program.display())))
}

#[test]
fn each_version_as_its_compiler_lays_it_out() {
    for version in VERSIONS {
        let table = in_order(&offsets::of(&format!("go{version}")).unwrap());
        assert_eq!(table, told(&build(version, PLAIN, false)), "Go {version}: {MEMBERS:?}");
    }
}

/// Experiments that are said to leave the structures as they are do, in each version that has them.
#[test]
fn harmless_experiments() {
    for (version, experiment) in EXPERIMENTS {
        let program = build_with(version, PLAIN, false, experiment);
        let plan = plan(&program).unwrap().unwrap();
        assert!(plan.version.ends_with(&format!("X:{experiment}")), "{}", plan.version);
        let table = in_order(&plan.offsets.unwrap());
        assert_eq!(table, told(&program), "{}: {MEMBERS:?}", plan.version);
    }
}

#[test]
fn an_experiment_that_changes_structures_is_refused() {
    let refused = Unverified::Experiment("staticlockranking".to_owned());
    for version in ["1.22.10", "1.27.3"] {
        let program = build_with(version, PLAIN, false, "staticlockranking");
        assert_ne!(in_order(&offsets::of(&format!("go{version}")).unwrap()), told(&program));
        let plan = plan(&program).unwrap().unwrap();
        assert_eq!(plan.offsets.as_ref(), Err(&refused), "{}", plan.version);
        assert_eq!(plan.points.len(), 9, "it still says where probes could be");
    }
}

#[test]
fn a_version_nobody_compared_is_not_guessed() {
    let of = |version: &str| offsets::of(version).err();
    let text = str::to_owned;
    assert_eq!(of("go1.22"), None);
    assert_eq!(of("go1.20.14"), None);
    assert_eq!(of("go1.22.10-fips"), None);
    assert_eq!(of(""), Some(Unverified::NoVersion));
    assert_eq!(of("unknown"), Some(Unverified::NoVersion));
    assert_eq!(of("go1.18.10"), Some(Unverified::Older(text("go1.18.10"))));
    assert_eq!(of("go1.28"), Some(Unverified::Newer(text("go1.28"))));
    assert_eq!(of("go1.4294967296"), Some(Unverified::NotARelease(text("go1.4294967296"))));
    for odd in
        ["go1.27rc1", "go1.22beta1", "devel go1.28-abc Mon", "go1.27-devel_abc Mon", "go2.0", "go1.", "go1.x", "gone"]
    {
        assert_eq!(of(odd), Some(Unverified::NotARelease(text(odd))), "{odd}");
    }
    for odd in ["go1.22.1 X:whatever", "go1.26.1-X:pagetrace,whatever", "go1.26-fips X:whatever", "go1.26 x X:whatever"]
    {
        assert_eq!(of(odd), Some(Unverified::Experiment(text("whatever"))), "{odd}");
    }
    assert_eq!(of("go1.26.1-X:boringcrypto,jsonv2"), None);
}
