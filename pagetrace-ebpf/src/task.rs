//! Fields of tasks and of what hangs at them.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_task_btf, bpf_probe_read_kernel,
        generated::{self, bpf_task_pt_regs},
    },
};
use core::ffi::c_void;

use crate::layout;

/// Reads a value at a kernel address; its zero value where nothing is mapped.
#[inline(always)]
pub fn read<T: Default>(addr: u64) -> T {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(addr as *const T) }.unwrap_or_default()
}

/// The same of a word, with one way through it: what a verifier can follow in loops. The helper itself leaves zeros.
#[inline(always)]
pub fn word(addr: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: the place is a word; the helper checks the address.
    unsafe { generated::bpf_probe_read_kernel((&raw mut word).cast(), 8, addr as *const c_void) };
    word
}

/// The running task, as the verifier's typed pointer.
#[inline(always)]
pub fn current() -> *mut task_struct {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_get_current_task_btf() }
}

/// The address space of the running task; 0 for a kernel thread.
#[inline(always)]
pub fn current_mm() -> u64 {
    // SAFETY: a load through a typed kernel pointer at an offset that the verifier knows: faults read as zero.
    unsafe { *current().cast::<u8>().add(layout::TASK_MM.load() as usize).cast::<u64>() }
}

/// The name of a task, in two words.
#[inline(always)]
pub fn comm(task: u64) -> [u64; 2] {
    read(task + layout::TASK_COMM.load())
}

/// The name of the running task.
#[inline(always)]
pub fn current_comm() -> [u64; 2] {
    comm(current() as u64)
}

#[inline(always)]
pub fn tgid(task: u64) -> u32 {
    read(task + layout::TASK_TGID.load())
}

#[inline(always)]
pub fn pid(task: u64) -> u32 {
    read(task + layout::TASK_PID.load())
}

#[inline(always)]
pub fn mm(task: u64) -> u64 {
    read(task + layout::TASK_MM.load())
}

/// A register of the running thread as it was when it came into the kernel, by its place in `struct pt_regs`.
#[inline(always)]
pub fn saved_register(offset: u64) -> u64 {
    // SAFETY: the helper takes the running task and gives a typed kernel pointer; the offset is known to the verifier.
    unsafe { *(bpf_task_pt_regs(current()) as *const u8).add(offset as usize).cast::<u64>() }
}

/// Whether the running thread came into the kernel by an exception: a system call has its number in the saved
/// registers, an exception -1 (arch/x86/entry).
#[inline(always)]
pub fn is_in_exception() -> bool {
    saved_register(layout::REGS_ORIG_AX.load()) as i64 == -1
}

/// Whether the running thread's faults are not handled for the moment (`pagefault_disable`).
#[inline(always)]
pub fn only_looks() -> bool {
    // A helper that reads kernel memory disables them itself.
    // SAFETY: as in `current_mm`.
    let disabled =
        unsafe { *current().cast::<u8>().add(layout::TASK_PAGEFAULT_DISABLED.load() as usize).cast::<u32>() };
    disabled != 0
}

/// The open file behind a descriptor of the running task; 0: none.
#[inline(always)]
pub fn file_of(fd: u32) -> u64 {
    let files: u64 = read(current() as u64 + layout::TASK_FILES.load());
    let table: u64 = read(files + layout::FILES_FDT.load());
    let limit: u32 = read(table + layout::FDT_MAX_FDS.load());
    if fd >= limit {
        return 0;
    }
    let slots: u64 = read(table + layout::FDT_FD.load());
    read(slots + u64::from(fd) * 8)
}

/// The task of a pidfd of the running task: the leader of the process; 0: none.
#[inline(always)]
pub fn task_of_pidfd(fd: u32) -> u64 {
    let file = file_of(fd);
    if file == 0 {
        return 0;
    }
    let pid: u64 = if layout::PIDFD_AT_INODE.load() != 0 {
        let inode: u64 = read(file + layout::FILE_INODE.load());
        read(inode + layout::INODE_PRIVATE.load())
    } else {
        read(file + layout::FILE_PRIVATE_DATA.load())
    };
    let node: u64 = read(pid + layout::PID_TGID_TASKS.load());
    if pid == 0 || node == 0 { 0 } else { node - layout::TASK_TGID_NODE.load() }
}

/// `IPCMNI_SHIFT` (include/linux/ipc_namespace.h): the part of a segment's number that is its place in the table.
const SEGMENT_INDEX: u32 = (1 << 15) - 1;
/// Levels of a table with that many places, 64 to a node.
const TABLE_LEVELS: u32 = 3;

/// The bytes of a System V segment in the namespace of the running task, as it was made; 0: not found. (A host with
/// `ipcmni_extend` has longer places: what stands there has another number, and is not taken.)
/// *Source.* lib/xarray.c, xas_load: an entry that ends in binary 10 is a node.
#[inline(always)]
pub fn segment_bytes(number: u32) -> u64 {
    if layout::IPC_SEGMENTS.load() == 0 {
        return 0;
    }
    let spaces: u64 = read(current() as u64 + layout::TASK_NSPROXY.load());
    let space: u64 = read(spaces + layout::NSPROXY_IPC.load());
    let mut entry: u64 = read(space + layout::IPC_SEGMENTS.load());
    for _ in 0..TABLE_LEVELS {
        if entry & 3 != 2 {
            break;
        }
        let shift: u8 = read(entry - 2 + layout::NODE_SHIFT.load());
        let place = (number & SEGMENT_INDEX) >> (shift & 15) & 63;
        entry = read(entry - 2 + layout::NODE_SLOTS.load() + u64::from(place) * 8);
    }
    if entry == 0 || entry & 3 != 0 || read::<u32>(entry + layout::SEGMENT_ID.load()) != number {
        return 0;
    }
    read(entry + layout::SEGMENT_BYTES.load())
}
