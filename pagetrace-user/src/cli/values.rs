//! Values on the command line: text -> typed, or why not and what to write instead.
//!
//! *Units.* Durations are a number and one of `us`, `ms`, `s`, `m`, `h`; sizes a number and one of `K`, `M`, `G`
//! (powers of 1024; `KiB`, `MiB`, `GiB` are the same), or bytes without any. Numbers are decimal, without a sign
//! or a fraction.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::units::{Bytes, PAGE_BYTES, Pid};

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    pub why: String,
    pub fix: String,
}

impl BadValue {
    fn new(why: impl Into<String>, fix: impl Into<String>) -> BadValue {
        BadValue { why: why.into(), fix: fix.into() }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.fix)
    }
}

impl std::error::Error for BadValue {}

/// A process number.
pub fn pid(text: &str) -> Result<Pid, BadValue> {
    match text.parse() {
        Ok(0) => Err(BadValue::new("0 is no process", "give the number of a running process: --pid 4242")),
        Ok(number) => Ok(Pid(number)),
        Err(_) => {
            Err(BadValue::new("not a process number", "give a number: --pid 4242; a name is selected with --comm NAME"))
        }
    }
}

/// Whether a flag is set: only the environment gives it a value.
pub fn flag(text: &str) -> Result<bool, BadValue> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(BadValue::new("neither true nor false", "give true or false")),
    }
}

/// A directory that is there.
pub fn directory(text: &str) -> Result<PathBuf, BadValue> {
    let path = PathBuf::from(text);
    if path.is_dir() {
        Ok(path)
    } else {
        Err(BadValue::new("not a directory", "give one that is there: --symbols DIR"))
    }
}

/// A whole number.
pub fn count(text: &str) -> Result<u64, BadValue> {
    text.parse().map_err(|_| BadValue::new("not a whole number", "give a number such as 0 or 1000"))
}

/// A length of time; at most a year.
pub fn duration(text: &str) -> Result<Duration, BadValue> {
    const FIX: &str = "give a number and a unit: 500ms, 30s, 2m or 1h";
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    let (number, unit) = number_and_unit(text);
    let number: u64 = number.parse().map_err(|_| BadValue::new("not a duration", FIX))?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "" if number == 0 => return Err(BadValue::new("a duration needs a unit", FIX)),
        "" => return Err(BadValue::new("a duration needs a unit", format!("write {number}s for {number} seconds"))),
        _ => return Err(BadValue::new(format!("{unit:?} is no unit of time"), FIX)),
    };
    let length = number.checked_mul(micros).map(Duration::from_micros).filter(|length| *length <= YEAR);
    length.ok_or_else(|| BadValue::new("longer than a year", FIX))
}

/// How long to record: a duration that is not zero.
pub fn recording_time(text: &str) -> Result<Duration, BadValue> {
    match duration(text)? {
        Duration::ZERO => Err(BadValue::new(
            "a recording of no length records nothing",
            "give a longer one, such as 30s; without -d it runs until Ctrl-C",
        )),
        length => Ok(length),
    }
}

/// A size in bytes.
pub fn size(text: &str) -> Result<Bytes, BadValue> {
    const FIX: &str = "give bytes, or a number and a unit: 65536, 64K, 8M, 64MiB or 1G";

    let (number, unit) = number_and_unit(text);
    let number: u64 = number.parse().map_err(|_| BadValue::new("not a size", FIX))?;
    let scale: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(BadValue::new(format!("{unit:?} is no unit of size"), FIX)),
    };
    number.checked_mul(scale).map(Bytes).ok_or_else(|| BadValue::new("too large", FIX))
}

/// The size of a CPU's ring buffer: what the kernel takes for one (a power of two, whole pages), at most 1 GiB.
pub fn ring(text: &str) -> Result<Bytes, BadValue> {
    const MOST: u64 = 1 << 30;

    let bytes = size(text)?;
    if bytes.0 > MOST {
        return Err(BadValue::new("a ring buffer of more than 1 GiB for each CPU", "give at most 1GiB"));
    }
    if bytes.0 >= PAGE_BYTES && bytes.0.is_power_of_two() {
        return Ok(bytes);
    }
    // SANITY: at most 1 GiB, so the next power of two is in range.
    let near = bytes.0.max(PAGE_BYTES).next_power_of_two();
    let why = if bytes.0 < PAGE_BYTES { "smaller than a page (4096 bytes)" } else { "not a power of two" };
    Err(BadValue::new(why, format!("--ring {}", short(near))))
}

/// Bytes between two samples of objects.
pub fn sample(text: &str) -> Result<Bytes, BadValue> {
    const MOST: u64 = 1 << 30;

    let bytes = size(text)?;
    if bytes.0 > MOST {
        return Err(BadValue::new("more than 1 GiB between two samples", "give at most 1GiB; 0 records every object"));
    }
    Ok(bytes)
}

/// Stacks of a CPU in a second.
pub fn stack_rate(text: &str) -> Result<u64, BadValue> {
    match count(text)? {
        rate @ 1..=1_000_000 => Ok(rate),
        _ => Err(BadValue::new("not from 1 to 1000000", "--stack-rate 1000, or no stacks: --stacks none")),
    }
}

/// What is put before the names of files.
pub fn prefix(text: &str) -> Result<String, BadValue> {
    const LONGEST: usize = 100;

    let why = if text.is_empty() {
        "empty"
    } else if text.contains('/') {
        "it would name another directory"
    } else if text.starts_with('.') {
        "the files would be hidden"
    } else if text.chars().any(char::is_control) {
        "it has control characters"
    } else if text.len() > LONGEST {
        "longer than 100 bytes"
    } else {
        return Ok(text.to_owned());
    };
    Err(BadValue::new(why, "give a short name, such as --prefix before; the directory is given with -o DIR"))
}

/// A glob for the kernel's short name of a process.
pub fn comm(text: &str) -> Result<String, BadValue> {
    /// `TASK_COMM_LEN` of include/linux/sched.h, less the zero at the end.
    const LONGEST: usize = 15;
    const FIX: &str = "give a name or a glob, in quotes: --comm 'redis-*'";

    if text.is_empty() {
        return Err(BadValue::new("empty", FIX));
    }
    globset::Glob::new(text).map_err(|error| BadValue::new(error.kind().to_string(), FIX))?;
    if text.len() > LONGEST && !text.contains(['*', '?', '[', '{', '\\']) {
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at < LONGEST).last().unwrap_or(0);
        let head = text.get(..end).unwrap_or_default();
        return Err(BadValue::new("the kernel keeps only 15 bytes of a name", format!("--comm '{head}*'")));
    }
    Ok(text.to_owned())
}

/// The leading digits, and the rest.
fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// A power of two as it is written on the command line.
fn short(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 => format!("{}GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{}MiB", bytes >> 20),
        bytes => format!("{}KiB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_micros), "{text:?}");
        };
        check("50us", Some(50));
        check("500ms", Some(500_000));
        check("30s", Some(30_000_000));
        check("2m", Some(120_000_000));
        check("1h", Some(3_600_000_000));
        check("0us", Some(0));
        check("8760h", Some(8760 * 3_600_000_000));
        for bad in
            ["", "s", "30", "-1s", "+1s", "1.5s", "1 s", "30S", "30sec", "1m30s", "8761h", "99999999999999999999s"]
        {
            check(bad, None);
        }
        check("18446744073709551615h", None);
        assert_eq!(duration("30").map_err(|bad| bad.fix), Err("write 30s for 30 seconds".into()));
        assert!(recording_time("0s").is_err());
        assert_eq!(recording_time("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(size(text).ok(), expected.map(Bytes), "{text:?}");
        };
        check("4096", Some(4096));
        check("4096B", Some(4096));
        check("64K", Some(65536));
        check("64KiB", Some(65536));
        check("8M", Some(8 << 20));
        check("64MiB", Some(64 << 20));
        check("1G", Some(1 << 30));
        check("1GiB", Some(1 << 30));
        for bad in
            ["", "M", "8MB", "8m", "-1", "0x1000", "1.5M", "8 M", "18446744073709551616", "18446744073709551615G"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn rings_are_powers_of_two_between_a_page_and_a_gibibyte() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let found = ring(text).map(|bytes| bytes.0).map_err(|bad| bad.fix);
            assert_eq!(found, expected.map_err(str::to_owned), "{text:?}");
        };
        check("4096", Ok(4096));
        check("8MiB", Ok(8 << 20));
        check("1GiB", Ok(1 << 30));
        check("3", Err("--ring 4KiB"));
        check("0", Err("--ring 4KiB"));
        check("4095", Err("--ring 4KiB"));
        check("4097", Err("--ring 8KiB"));
        check("3M", Err("--ring 4MiB"));
        check("1073741823", Err("--ring 1GiB"));
        check("2GiB", Err("give at most 1GiB"));
    }

    #[test]
    fn names() {
        assert_eq!(comm("redis-server"), Ok("redis-server".into()));
        assert_eq!(comm("post*"), Ok("post*".into()));
        assert_eq!(comm("123456789012345"), Ok("123456789012345".into()));
        assert_eq!(comm("1234567890123456").map_err(|bad| bad.fix), Err("--comm '12345678901234*'".into()));
        assert!(comm("").is_err());
        assert!(comm("[").is_err());
        assert_eq!(prefix("before"), Ok("before".into()));
        for bad in ["", "a/b", "..", ".x", "a\nb"] {
            assert!(prefix(bad).is_err(), "{bad:?}");
        }
        assert!(prefix(&"x".repeat(101)).is_err());
    }

    #[test]
    fn flags() {
        assert!(["1", "true", "YES", "on"].iter().all(|text| flag(text) == Ok(true)));
        assert!(["", "0", "False", "no", "off"].iter().all(|text| flag(text) == Ok(false)));
        assert!(flag("maybe").is_err());
    }

    #[test]
    fn process_numbers() {
        assert_eq!(pid("4242"), Ok(Pid(4242)));
        for bad in ["0", "-1", "", "redis", "4294967296", "1.0"] {
            assert!(pid(bad).is_err(), "{bad:?}");
        }
    }
}
