//! What the numbers in calls mean: advices, what they do at once, and errors.
//!
//! *Source.* include/uapi/asm-generic/mman-common.h and errno*.h of Linux 6.18 (x86-64 and arm64 agree).

const MADV_DONTNEED: i32 = 4;
const MADV_FREE: i32 = 8;
const MADV_REMOVE: i32 = 9;
const MADV_PAGEOUT: i32 = 21;
const MADV_DONTNEED_LOCKED: i32 = 24;
const MADV_GUARD_INSTALL: i32 = 102;

/// Whether pages of the range are gone when the call returns.
#[must_use]
pub fn drops_pages(advice: i32) -> bool {
    matches!(advice, MADV_DONTNEED | MADV_REMOVE | MADV_DONTNEED_LOCKED | MADV_GUARD_INSTALL)
}

/// Whether the advice gives pages back to the kernel, now or when it wants them, and keeps the range.
#[must_use]
pub fn gives_back(advice: i32) -> bool {
    matches!(advice, MADV_DONTNEED | MADV_FREE | MADV_REMOVE | MADV_PAGEOUT | MADV_DONTNEED_LOCKED)
}

/// The kernel's name of an advice in lower case, without its prefix.
#[must_use]
pub fn advice_name(advice: i32) -> Option<&'static str> {
    Some(match advice {
        0 => "normal",
        1 => "random",
        2 => "sequential",
        3 => "willneed",
        MADV_DONTNEED => "dontneed",
        MADV_FREE => "free",
        MADV_REMOVE => "remove",
        10 => "dontfork",
        11 => "dofork",
        12 => "mergeable",
        13 => "unmergeable",
        14 => "hugepage",
        15 => "nohugepage",
        16 => "dontdump",
        17 => "dodump",
        18 => "wipeonfork",
        19 => "keeponfork",
        20 => "cold",
        MADV_PAGEOUT => "pageout",
        22 => "populate_read",
        23 => "populate_write",
        MADV_DONTNEED_LOCKED => "dontneed_locked",
        25 => "collapse",
        100 => "hwpoison",
        101 => "soft_offline",
        MADV_GUARD_INSTALL => "guard_install",
        103 => "guard_remove",
        _ => return None,
    })
}

/// The name of an error that a call of the vma layer can give.
#[must_use]
pub fn errno_name(errno: u32) -> Option<&'static str> {
    Some(match errno {
        1 => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        4 => "EINTR",
        5 => "EIO",
        6 => "ENXIO",
        7 => "E2BIG",
        9 => "EBADF",
        10 => "ECHILD",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        19 => "ENODEV",
        22 => "EINVAL",
        23 => "ENFILE",
        24 => "EMFILE",
        26 => "ETXTBSY",
        28 => "ENOSPC",
        38 => "ENOSYS",
        43 => "EIDRM",
        75 => "EOVERFLOW",
        95 => "EOPNOTSUPP",
        133 => "EHWPOISON",
        _ => return None,
    })
}
