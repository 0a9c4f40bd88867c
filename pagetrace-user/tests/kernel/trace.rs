//! A trace as `dump --json` shows it.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::recorder::run;

/// One event: the stable keys, those that are there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    pub ts: u64,
    pub cpu: u32,
    pub layer: String,
    pub kind: String,
    pub tgid: u32,
    pub tid: u32,
    #[serde(deserialize_with = "hex")]
    pub addr: Option<u64>,
    pub bytes: Option<u64>,
    pub npages: Option<u64>,
    pub pfn: Option<u64>,
    pub order: Option<u32>,
    pub access: Option<String>,
    pub advice: Option<String>,
    pub member: Option<String>,
    pub level_bytes: Option<u64>,
    pub call: Option<String>,
    pub kernel: Option<bool>,
    pub prot: Option<u32>,
    pub path: Option<String>,
    pub offset: Option<u64>,
    pub errno: Option<i64>,
    #[serde(deserialize_with = "hex")]
    pub old_addr: Option<u64>,
    #[serde(deserialize_with = "hex")]
    pub new_addr: Option<u64>,
    pub old_bytes: Option<u64>,
    pub replaced: Option<Vec<Value>>,
    pub actor: Option<Actor>,
    pub phase: Option<String>,
    pub why: Option<String>,
    pub how: Option<String>,
    pub child: Option<u32>,
    pub parent: Option<u32>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub signal: Option<u32>,
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub count: Option<u64>,
    pub swapped: Option<bool>,
    pub maps: Option<bool>,
    pub name: Option<String>,
    pub shared: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Actor {
    pub tid: u32,
    pub tgid: u32,
    pub comm: String,
}

fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let digits = text.strip_prefix("0x").ok_or_else(|| serde::de::Error::custom("an address without 0x"))?;
    u64::from_str_radix(digits, 16).map(Some).map_err(serde::de::Error::custom)
}

impl Line {
    pub fn is(&self, layer: &str, kind: &str) -> bool {
        self.layer == layer && self.kind == kind
    }
}

/// One file.
#[derive(Debug)]
pub struct Trace {
    pub header: Value,
    pub lines: Vec<Line>,
    /// The last line: kind `trailer`, or `end` where the file has none.
    pub trailer: Value,
}

impl Trace {
    /// Dumps a whole file.
    pub fn dump(file: &Path) -> Trace {
        Trace::dump_with(file, 0)
    }

    /// Dumps a file, and asserts this exit code.
    pub fn dump_with(file: &Path, code: i32) -> Trace {
        let ran = run([std::ffi::OsStr::new("dump"), std::ffi::OsStr::new("--json"), file.as_os_str()]);
        assert_eq!(ran.code, Some(code), "dump {}: {}", file.display(), ran.stderr);
        let mut rows: Vec<&str> = ran.stdout.lines().collect();
        let parse = |row: &str| -> Value { serde_json::from_str(row).unwrap_or_else(|error| panic!("{error}: {row}")) };
        let trailer = parse(rows.pop().expect("a last line"));
        let header = parse(rows.first().expect("a first line"));
        assert_eq!(header["kind"], "header");
        let lines = rows.iter().skip(1).map(|row| {
            let line: Line = serde_json::from_str(row).unwrap_or_else(|error| panic!("{error}: {row}"));
            assert!(!line.kind.is_empty() && !line.layer.is_empty() && line.ts > 0, "the common keys: {row}");
            line
        });
        let lines = lines.collect();
        Trace { header, lines, trailer }
    }

    pub fn tgid(&self) -> u32 {
        u32::try_from(self.header["tgid"].as_u64().unwrap()).unwrap()
    }

    pub fn of<'a>(&'a self, layer: &'a str, kind: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.is(layer, kind))
    }

    /// The one mapping of this many pages that was made, as `[start, end)`.
    pub fn mapping_of(&self, pages: u64) -> Option<(u64, u64)> {
        let mut found = self.of("vma", "alloc").filter(|line| line.npages == Some(pages) && line.path.is_none());
        let line = found.next()?;
        let start = line.addr?;
        Some((start, start + pages * 4096))
    }

    /// User faults in a range, in order.
    pub fn faults_in(&self, range: (u64, u64)) -> Vec<&Line> {
        self.of("page", "fault")
            .filter(|line| line.addr.is_some_and(|addr| range.0 <= addr && addr < range.1))
            .collect()
    }
}
