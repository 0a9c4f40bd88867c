//! Names of the kernel's functions.
//!
//! *Source.* /proc/kallsyms: lines of `ADDRESS TYPE NAME [MODULE]`. The addresses are zero where `kernel.kptr_restrict` hides
//! them. They are other ones after each boot: what is told of a place is its distance from the kernel's start, and its name.

use std::fs;

use crate::event::{Function, Place};

const SYMBOLS: &str = "/proc/kallsyms";
/// Where the kernel begins.
const START: &str = "_text";
/// What the functions begin with that are nothing but the way from a tracepoint to our programs.
const TRACING: [&str; 8] =
    ["bpf_", "__bpf_", "trace_call_bpf", "perf_trace_", "perf_syscall_", "perf_call_bpf_", "__traceiter_", "__perf_"];

/// The functions of the running kernel and its modules.
pub struct KernelSymbols {
    text: String,
    /// Address, and where in the text the name and what follows it begins; by address.
    symbols: Vec<(u64, usize)>,
    start: u64,
}

impl KernelSymbols {
    /// Reads them; `None` where they are hidden.
    #[must_use]
    pub fn read() -> Option<KernelSymbols> {
        KernelSymbols::parse(fs::read_to_string(SYMBOLS).ok()?)
    }

    fn parse(text: String) -> Option<KernelSymbols> {
        let mut symbols = Vec::new();
        let (mut start, mut at) = (0, 0);
        for line in text.split_inclusive('\n') {
            if let Some((address, kind, name)) = parse(line) {
                if name.split_whitespace().next() == Some(START) {
                    start = address;
                }
                if matches!(kind, "t" | "T" | "w" | "W") && address != 0 {
                    symbols.push((address, at + line.len() - name.len()));
                }
            }
            at += line.len();
        }
        // Of several names of one place the first one holds.
        symbols.sort_by_key(|(address, _)| *address);
        symbols.dedup_by_key(|(address, _)| *address);
        (start != 0 && !symbols.is_empty()).then_some(KernelSymbols { text, symbols, start })
    }

    /// The function at an address, with its module where it has one.
    fn name(&self, address: u64) -> Option<String> {
        let after = self.symbols.partition_point(|(start, _)| *start <= address);
        let (_, at) = self.symbols.get(after.checked_sub(1)?)?;
        let mut words = self.text.get(*at..)?.lines().next()?.split_whitespace();
        let name = words.next()?;
        Some(words.next().map_or_else(|| name.to_owned(), |module| format!("{name} {module}")))
    }

    /// The places of a stack that begins in one of our programs, the innermost first, and the function at each.
    #[must_use]
    pub fn places(&self, addresses: &[u64]) -> Vec<(Place, Option<Function>)> {
        // A call returns there: the byte before is of the function that called, whatever comes behind it.
        let calls = addresses.iter().map(|address| address.saturating_sub(1));
        let named: Vec<(u64, Option<String>)> = calls.map(|address| (address, self.name(address))).collect();
        let ours = named.iter().rposition(|(_, name)| name.as_deref().is_some_and(is_tracing));
        let place = |address: u64| Place::Kernel(address.wrapping_sub(self.start));
        let function = |name| Function { name, file: String::new(), line: 0 };
        let theirs = named.into_iter().skip(ours.map_or(0, |at| at + 1));
        theirs.map(|(address, name)| (place(address), name.map(function))).collect()
    }
}

/// Whether a function is part of the way to our programs, or one of them.
fn is_tracing(name: &str) -> bool {
    name.ends_with(" [bpf]") || TRACING.iter().any(|way| name.starts_with(way))
}

/// Address, type, and the rest.
fn parse(line: &str) -> Option<(u64, &str, &str)> {
    let (address, rest) = line.split_once(' ')?;
    let (kind, name) = rest.split_once(' ')?;
    Some((u64::from_str_radix(address, 16).ok()?, kind, name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff81000000 T _text\nffffffff81000100 t first\nffffffff81000100 t alias\n\
                        ffffffff81000180 d data\nffffffff81000200 T second\nffffffffc0000000 t mine\t[zram]\n\
                        ffffffffc0001000 t bpf_prog_00_pt_fault_user\t[bpf]\nffffffff81000300 T bpf_trace_run3\n";

    #[test]
    fn names_of_places() {
        let symbols = KernelSymbols::parse(TEXT.to_owned()).unwrap();
        let told = |addresses: &[u64]| -> Vec<(Place, String)> {
            let places = symbols.places(addresses).into_iter();
            places
                .map(|(place, function)| (place, function.map(|function| function.name).unwrap_or_default()))
                .collect()
        };
        let addresses = [0xffff_ffff_c000_1040, 0xffff_ffff_8100_0310, 0xffff_ffff_8100_0200, 0xffff_ffff_c000_0020];
        let expected =
            [(Place::Kernel(0x1ff), "first".to_owned()), (Place::Kernel(0x3f00_001f), "mine [zram]".to_owned())];
        assert_eq!(told(&addresses), expected);
        assert_eq!(told(&[0xffff_ffff_8000_0000]), [(Place::Kernel(u64::MAX - 0xff_ffff - 1), String::new())]);
        assert_eq!(told(&[]), []);
    }

    #[test]
    fn hidden_ones_are_none() {
        assert!(KernelSymbols::parse("0000000000000000 T _text\n0000000000000000 T first\n".to_owned()).is_none());
        assert!(KernelSymbols::parse(String::new()).is_none());
        assert!(KernelSymbols::parse("no line of it\n".to_owned()).is_none());
    }
}
