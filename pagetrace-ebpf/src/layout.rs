//! Where fields lie in the running kernel's structures: set by the recorder from BTF before the load.
//!
//! *Invariant.* A value is an offset in bytes unless its name says otherwise. They are constants to the verifier
//! (the section is frozen before the programs load), so that typed kernel pointers may be moved by them.

use aya_ebpf::Global;

macro_rules! layout {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub static $name: Global<u64> = Global::new(0);)+
    };
}

layout! {
    TASK_MM, TASK_TGID, TASK_PID, TASK_START_BOOTTIME, TASK_GROUP_LEADER, TASK_COMM, TASK_SIGNAL, TASK_EXIT_CODE,
    TASK_FILES, TASK_REAL_PARENT, TASK_PAGEFAULT_DISABLED,
    /// Of the hash-list node by which a task hangs in its thread group's `struct pid`.
    TASK_TGID_NODE,
    /// Of the head of that list in `struct pid`.
    PID_TGID_TASKS,
    SIGNAL_LIVE, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE,
    MM_RSS_STAT, MM_BRK, MM_START_STACK, MM_START_CODE, MM_END_CODE,
    COUNTER_BYTES, COUNTER_COUNT, COUNTER_COUNTERS,
    FILES_FDT, FDT_FD, FDT_MAX_FDS,
    FILE_INODE, FILE_DENTRY, FILE_PRIVATE_DATA,
    INODE_INO, INODE_SB, INODE_PRIVATE, SB_DEV, DENTRY_NAME,
    /// Of what paths are made of; the root of a mount is 0 where it is not known.
    FILE_MOUNT, DENTRY_PARENT, DENTRY_INODE, DENTRY_HASHED, DENTRY_SB, EMBEDDED_SB,
    MOUNT_EMBEDDED, MOUNT_ROOT, MOUNT_PARENT, MOUNT_POINT, MOUNT_NAMESPACE,
    /// Of the path that a file on a stacked file system is shown with; 0: a kernel without such files.
    BACKING_DENTRY, BACKING_MOUNT,
    /// Of the root of the tree of mappings in `struct mm_struct`; 0: not known.
    MM_TREE,
    RANGE_PIVOTS, RANGE_SLOTS, ARANGE_PIVOTS, ARANGE_SLOTS,
    VMA_START, VMA_END, VMA_FLAGS, VMA_PAGE, VMA_FILE,
    TASK_NSPROXY, NSPROXY_IPC,
    /// Of the root of the table of shared segments in `struct ipc_namespace`; 0: a kernel without them.
    IPC_SEGMENTS,
    NODE_SHIFT, NODE_SLOTS, SEGMENT_ID, SEGMENT_BYTES,
    /// 1: a pidfd's `struct pid` hangs at the inode (pidfs), 0: at the file.
    PIDFD_AT_INODE,
    REGS_IP, REGS_SP, REGS_BP, REGS_ORIG_AX,
    ARRAY_PPTRS,
    /// The position of `status` among the arguments of `mm_khugepaged_scan_pmd`.
    KHUGEPAGED_STATUS_ARG,
    /// CPUs to add up in a memory counter: 0 when the host has too many.
    EXACT_CPUS,
    /// Flags of every submit to a ring.
    SUBMIT_FLAGS,
    /// Words that a record's payload takes in a ring at least, up to [`pagetrace_common::record::PADDED_WORDS`]; to measure what
    /// records of one size cost.
    LEAST_WORDS,
}
