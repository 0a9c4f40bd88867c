//! The system calls that no crate has: `bpf` for programs and links of several uprobes, and `perf_event_open`.
//!
//! *Source.* include/uapi/linux/bpf.h, include/uapi/linux/perf_event.h.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type, perf_event_attr,
};

use super::Way;

/// `BPF_TRACE_UPROBE_SESSION` (6.13).
pub const BPF_TRACE_UPROBE_SESSION: u32 = 57;
/// `BPF_F_UPROBE_MULTI_RETURN`.
const RETURNS: u32 = 1;

/// Bytes of the verifier's log that are asked for.
const LOG_BYTES: usize = 1 << 16;
/// A load that a signal came upon is tried again, as libbpf does.
const LOAD_TRIES: usize = 5;

/// Loads a program of the kprobe kind for this way to attach it (0: a perf event).
///
/// *Errors.* The kernel's, with the end of the verifier's log where it wrote one.
pub fn load(name: &str, instructions: &[bpf_insn], license: &CStr, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: every field of the union is integers; this is the one that the command reads.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    load.insns = instructions.as_ptr() as u64;
    load.license = license.as_ptr() as u64;
    load.expected_attach_type = attach_type;
    let text = load.prog_name.iter_mut().zip(name.bytes().take(15));
    text.for_each(|(to, from)| *to = from.cast_signed());
    for _ in 0..LOAD_TRIES {
        match bpf(bpf_cmd::BPF_PROG_LOAD, &attr) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(explained(error, &mut attr)),
            loaded => return loaded,
        }
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &attr)
}

/// The same error with what the verifier says last.
fn explained(error: io::Error, attr: &mut bpf_attr) -> io::Error {
    let mut log = vec![0_u8; LOG_BYTES];
    // SAFETY: as in `load`.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.log_level = 1;
    load.log_size = LOG_BYTES as u32;
    load.log_buf = log.as_mut_ptr() as u64;
    let Err(again) = bpf(bpf_cmd::BPF_PROG_LOAD, attr) else { return error };
    // Behind the end stands what the verifier wrote of paths that it found sound.
    let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    match text.lines().rfind(|line| !line.starts_with("processed")) {
        Some(line) => io::Error::new(again.kind(), format!("{again}: {line}")),
        None => again,
    }
}

/// Links a program to several places of a file at once, offsets and cookies; `pid` 0: of every process.
pub fn link_multi(
    program: BorrowedFd<'_>,
    way: Way,
    path: &CStr,
    (offsets, cookies): (&[u64], &[u64]),
    pid: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: every field of the union is integers; this is the one that the command reads.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    link.attach_type = match way {
        Way::Session => BPF_TRACE_UPROBE_SESSION,
        _ => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
    };
    // SAFETY: as above.
    let multi = unsafe { &mut link.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = offsets.as_ptr() as u64;
    multi.cookies = cookies.as_ptr() as u64;
    multi.cnt = u32::try_from(offsets.len().min(cookies.len())).map_err(io::Error::other)?;
    multi.pid = pid;
    multi.flags = if way == Way::MultiReturns { RETURNS } else { 0 };
    bpf(bpf_cmd::BPF_LINK_CREATE, &attr)
}

/// Links a program to a perf event.
pub fn link_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>, cookie: u64) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: every field of the union is integers; this is the one that the command reads.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    link.__bindgen_anon_2.target_fd = event.as_raw_fd().cast_unsigned();
    link.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    link.__bindgen_anon_3.perf_event.bpf_cookie = cookie;
    bpf(bpf_cmd::BPF_LINK_CREATE, &attr)
}

/// A perf event at a place of a file: the breakpoint stands as long as it is open. `returns`: the event is the return
/// of the function. `pid`: in that process only.
pub fn uprobe_event(kind: u32, (path, offset): (&CStr, u64), returns: bool, pid: Option<u32>) -> io::Result<OwnedFd> {
    // SAFETY: integers only: zero is a value of each.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.type_ = kind;
    attr.size = size_of::<perf_event_attr>() as u32;
    // Bit 0 of `config` is `retprobe` (format/retprobe beside the number of the kind).
    attr.config = u64::from(returns);
    attr.__bindgen_anon_3.uprobe_path = path.as_ptr() as u64;
    attr.__bindgen_anon_4.probe_offset = offset;
    // Of every process, an event has to name a CPU; the program runs on all of them.
    let (pid, cpu) = match pid {
        Some(pid) => (i32::try_from(pid).map_err(io::Error::other)?, -1),
        None => (-1, 0),
    };
    // SAFETY: the structure and the path that it points to live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC) };
    descriptor(result)
}

/// A path as the kernel reads it.
pub fn c_path(path: &str) -> io::Result<CString> {
    CString::new(path).map_err(io::Error::other)
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of structures of integers: zero is a value of each.
    unsafe { std::mem::zeroed() }
}

fn bpf(command: bpf_cmd, attr: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told; all that they point to outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_ref(attr), size_of::<bpf_attr>()) })
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: a descriptor that the kernel just gave, and nobody else knows.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
