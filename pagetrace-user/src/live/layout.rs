//! Where fields lie in the running kernel's structures, from its own BTF.
//!
//! *Source.* /sys/kernel/btf/vmlinux. Parsing it takes some 100 MB for a moment, so a child process does it
//! ([`stage`]) and only the numbers come back: lines of `NAME VALUE`.
//!
//! *Errors.* A structure or member that the kernel does not have is named, with exit code 5.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use btfparse::{Offset, Readable, TypeInformation, TypeVariant};

use crate::failure::{Code, Failure};

/// The kernel's description of its own types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The hidden first argument that makes this program run [`stage`].
pub const STAGE: &str = "__layout";

/// Name of the load-time value, structure, path to the member.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("TASK_MM", "task_struct", "mm"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_START_BOOTTIME", "task_struct", "start_boottime"),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_COMM", "task_struct", "comm"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
    ("TASK_FILES", "task_struct", "files"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_PAGEFAULT_DISABLED", "task_struct", "pagefault_disabled"),
    ("TASK_PID_LINKS", "task_struct", "pid_links"),
    ("PID_TASKS", "pid", "tasks"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("SIGNAL_FLAGS", "signal_struct", "flags"),
    ("SIGNAL_GROUP_EXIT_CODE", "signal_struct", "group_exit_code"),
    ("MM_RSS_STAT", "mm_struct", "rss_stat"),
    ("MM_BRK", "mm_struct", "brk"),
    ("MM_START_STACK", "mm_struct", "start_stack"),
    ("MM_START_CODE", "mm_struct", "start_code"),
    ("MM_END_CODE", "mm_struct", "end_code"),
    ("COUNTER_COUNT", "percpu_counter", "count"),
    ("COUNTER_COUNTERS", "percpu_counter", "counters"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDT_FD", "fdtable", "fd"),
    ("FDT_MAX_FDS", "fdtable", "max_fds"),
    ("FILE_INODE", "file", "f_inode"),
    ("FILE_PATH", "file", "f_path"),
    ("PATH_DENTRY", "path", "dentry"),
    ("FILE_PRIVATE_DATA", "file", "private_data"),
    ("INODE_INO", "inode", "i_ino"),
    ("INODE_SB", "inode", "i_sb"),
    ("INODE_PRIVATE", "inode", "i_private"),
    ("SB_DEV", "super_block", "s_dev"),
    ("DENTRY_D_NAME", "dentry", "d_name"),
    ("QSTR_NAME", "qstr", "name"),
    ("REGS_IP", "pt_regs", "ip"),
    ("REGS_SP", "pt_regs", "sp"),
    ("REGS_BP", "pt_regs", "bp"),
    ("REGS_ORIG_AX", "pt_regs", "orig_ax"),
    ("ARRAY_PPTRS", "bpf_array", "pptrs"),
];

/// Name of the value and the structure whose size it is.
const SIZES: &[(&str, &str)] = &[
    ("COUNTER_BYTES", "percpu_counter"),
    ("PAGE_BYTES", "page"),
    ("HLIST_HEAD_BYTES", "hlist_head"),
    ("HLIST_NODE_BYTES", "hlist_node"),
];

/// The same, of what a kernel may be built without, or may have otherwise: each of these is there as a whole or not at all.
const OPTIONAL: &[&[(&str, &str, &str)]] = &[SEGMENTS, PATHS, BACKING_FILES, MAPPINGS];

/// Of the whole paths of files.
const PATHS: &[(&str, &str, &str)] = &[
    ("PATH_MNT", "path", "mnt"),
    ("DENTRY_PARENT", "dentry", "d_parent"),
    ("DENTRY_INODE", "dentry", "d_inode"),
    ("DENTRY_HASH", "dentry", "d_hash"),
    ("NODE_PPREV", "hlist_bl_node", "pprev"),
    ("DENTRY_SB", "dentry", "d_sb"),
    ("MOUNT_EMBEDDED", "mount", "mnt"),
    ("MOUNT_PARENT", "mount", "mnt_parent"),
    ("MOUNT_POINT", "mount", "mnt_mountpoint"),
    ("MOUNT_NAMESPACE", "mount", "mnt_ns"),
    ("EMBEDDED_SB", "vfsmount", "mnt_sb"),
    ("EMBEDDED_ROOT", "vfsmount", "mnt_root"),
];

/// Of files on stacked file systems (6.5 on), whose own path is that of the file below.
const BACKING_FILES: &[(&str, &str, &str)] = &[("BACKING_PATH", "backing_file", "user_path")];

/// Of the mappings of an address space.
const MAPPINGS: &[(&str, &str, &str)] = &[
    ("MM_MAPPINGS", "mm_struct", "mm_mt"),
    ("TREE_ROOT", "maple_tree", "ma_root"),
    ("RANGE_PIVOTS", "maple_range_64", "pivot"),
    ("RANGE_SLOTS", "maple_range_64", "slot"),
    ("ARANGE_PIVOTS", "maple_arange_64", "pivot"),
    ("ARANGE_SLOTS", "maple_arange_64", "slot"),
    ("VMA_START", "vm_area_struct", "vm_start"),
    ("VMA_END", "vm_area_struct", "vm_end"),
    ("VMA_FLAGS", "vm_area_struct", "vm_flags"),
    ("VMA_PAGE", "vm_area_struct", "vm_pgoff"),
    ("VMA_FILE", "vm_area_struct", "vm_file"),
];

/// Of System V segments.
const SEGMENTS: &[(&str, &str, &str)] = &[
    ("TASK_NSPROXY", "task_struct", "nsproxy"),
    ("NSPROXY_IPC", "nsproxy", "ipc_ns"),
    ("NAMESPACE_IDS", "ipc_namespace", "ids"),
    ("IDS_TABLE", "ipc_ids", "ipcs_idr"),
    ("TABLE_ROOT", "idr", "idr_rt"),
    ("ROOT_HEAD", "xarray", "xa_head"),
    ("NODE_SHIFT", "xa_node", "shift"),
    ("NODE_SLOTS", "xa_node", "slots"),
    ("SEGMENT_BYTES", "shmid_kernel", "shm_segsz"),
    ("SEGMENT_PERMISSIONS", "shmid_kernel", "shm_perm"),
    ("PERMISSIONS_ID", "kern_ipc_perm", "id"),
];

/// The place of the segments' table in a namespace (ipc/util.h: `IPC_SHM_IDS`).
const IPC_SHM_IDS: u64 = 2;

/// The place of `PIDTYPE_TGID` in `enum pid_type` (include/linux/pid_types.h, unchanged since 4.19).
const PIDTYPE_TGID: u64 = 1;

/// Offsets and sizes by the names that the eBPF object gives them.
pub type Layout = BTreeMap<String, u64>;

/// Reads the layout in a child process.
pub fn read() -> Result<Layout, Failure> {
    let failed = |why: String| {
        Failure::new(
            Code::Kernel,
            "cannot read the kernel's type information",
            why,
            "run a kernel built with CONFIG_DEBUG_INFO_BTF=y; `pagetrace-user doctor` tells what else is missing",
        )
    };
    if !Path::new(BTF_PATH).exists() {
        return Err(failed(format!("{BTF_PATH} does not exist")));
    }
    let output = Command::new("/proc/self/exe")
        .arg(STAGE)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("the child process did not run: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut layout = Layout::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, value)) = line.split_once(' ')
            && let Ok(value) = value.parse()
        {
            layout.insert(name.to_owned(), value);
        }
    }
    derive(&mut layout).ok_or_else(|| failed("the child process left values out".to_owned()))?;
    Ok(layout)
}

/// The child process: prints the layout, or why it cannot be read on stderr. The exit code.
pub fn stage() -> u8 {
    match parse() {
        Ok(lines) => {
            print!("{lines}");
            0
        }
        Err(why) => {
            eprintln!("{why}");
            1
        }
    }
}

/// The file in memory, as the parser wants it.
struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), btfparse::Error> {
        let from = usize::try_from(offset).ok().and_then(|start| self.0.get(start..)?.get(..buffer.len()));
        match from {
            Some(from) => {
                buffer.copy_from_slice(from);
                Ok(())
            }
            None => Err(btfparse::Error::new(btfparse::ErrorKind::IOError, "the file ends too early")),
        }
    }
}

fn parse() -> Result<String, String> {
    let bytes = std::fs::read(BTF_PATH).map_err(|error| format!("{BTF_PATH}: {error}"))?;
    let types = TypeInformation::new(&Bytes(bytes)).map_err(|error| format!("{BTF_PATH}: {}", error.message()))?;
    let mut lines = String::new();
    for (name, structure, member) in MEMBERS {
        lines.push_str(&format!("{name} {}\n", offset(&types, structure, member)?));
    }
    for group in OPTIONAL {
        let line = |(name, structure, member): &(&str, &str, &str)| -> Result<String, String> {
            Ok(format!("{name} {}\n", offset(&types, structure, member)?))
        };
        let found: Result<Vec<String>, String> = group.iter().map(line).collect();
        lines.push_str(&found.map(|found| found.concat()).unwrap_or_default());
    }
    if let Some(bytes) = types.id_of("ipc_ids").and_then(|id| types.size_of(id).ok()) {
        lines.push_str(&format!("IDS_BYTES {bytes}\n"));
    }
    for (name, structure) in SIZES {
        let id = types.id_of(structure).ok_or_else(|| format!("the kernel has no struct {structure}"))?;
        let bytes = types.size_of(id).map_err(|error| format!("struct {structure}: {}", error.message()))?;
        lines.push_str(&format!("{name} {bytes}\n"));
    }
    let pidfs = function(&types, "pidfs_alloc_file").is_some();
    lines.push_str(&format!("PIDFD_AT_INODE {}\n", u8::from(pidfs)));
    let walk = function(&types, "bpf_iter_task").ok_or("the kernel has no walk over tasks (bpf_iter_task)")?;
    lines.push_str(&format!("WALK_TYPE {walk}\n"));
    // A tracepoint's type has its arguments behind one of BPF's own.
    let arguments = tracepoint_arguments(&types, "btf_trace_mm_khugepaged_scan_pmd").unwrap_or(0);
    lines.push_str(&format!("KHUGEPAGED_STATUS_ARG {}\n", arguments.saturating_sub(2)));
    Ok(lines)
}

/// Where a member lies, in bytes.
fn offset(types: &TypeInformation, structure: &str, member: &str) -> Result<u64, String> {
    let id = types.id_of(structure).ok_or_else(|| format!("the kernel has no struct {structure}"))?;
    let found = types.offset_of(id, member);
    let (_, offset) = found.map_err(|_| format!("the kernel's struct {structure} has no member {member}"))?;
    Ok(match offset {
        Offset::ByteOffset(bytes) => u64::from(bytes),
        Offset::BitOffsetAndSize(bits, _) => u64::from(bits / 8),
    })
}

/// The number of a function's type.
fn function(types: &TypeInformation, name: &str) -> Option<u32> {
    types.get().iter().find_map(|(id, variant)| match variant {
        TypeVariant::Func(function) if function.name().as_deref() == Some(name) => Some(*id),
        _ => None,
    })
}

/// How many arguments the tracepoint behind this typedef has.
fn tracepoint_arguments(types: &TypeInformation, typedef: &str) -> Option<usize> {
    let TypeVariant::Typedef(definition) = types.from_id(types.id_of(typedef)?)? else { return None };
    let TypeVariant::Ptr(pointer) = types.from_id(*definition.tid())? else { return None };
    let TypeVariant::FuncProto(prototype) = types.from_id(*pointer.tid())? else { return None };
    prototype.parameter_list().len().checked_sub(1)
}

/// Adds what follows from the values read.
fn derive(layout: &mut Layout) -> Option<()> {
    let get = |name: &str| layout.get(name).copied();
    let dentry = get("FILE_PATH")? + get("PATH_DENTRY")?;
    let name = get("DENTRY_D_NAME")? + get("QSTR_NAME")?;
    let head = get("PID_TASKS")? + PIDTYPE_TGID * get("HLIST_HEAD_BYTES")?;
    let node = get("TASK_PID_LINKS")? + PIDTYPE_TGID * get("HLIST_NODE_BYTES")?;
    let (path, path_dentry) = (get("FILE_PATH")?, get("PATH_DENTRY")?);
    let paths = || {
        let root = get("MOUNT_EMBEDDED")? + get("EMBEDDED_ROOT")?;
        Some((path + get("PATH_MNT")?, get("DENTRY_HASH")? + get("NODE_PPREV")?, root))
    };
    let paths = paths();
    let backing = || Some((get("BACKING_PATH")? + path_dentry, get("BACKING_PATH")? + get("PATH_MNT")?));
    let backing = backing();
    let tree = || Some(get("MM_MAPPINGS")? + get("TREE_ROOT")?);
    let tree = tree();
    let segments = || {
        let root = get("IDS_TABLE")? + get("TABLE_ROOT")? + get("ROOT_HEAD")?;
        let table = get("NAMESPACE_IDS")? + IPC_SHM_IDS * get("IDS_BYTES")? + root;
        Some((table, get("SEGMENT_PERMISSIONS")? + get("PERMISSIONS_ID")?))
    };
    let segments = segments();
    if let Some((mount, hashed, root)) = paths {
        layout.insert("FILE_MOUNT".to_owned(), mount);
        layout.insert("DENTRY_HASHED".to_owned(), hashed);
        layout.insert("MOUNT_ROOT".to_owned(), root);
    }
    if let Some((dentry, mount)) = backing {
        layout.insert("BACKING_DENTRY".to_owned(), dentry);
        layout.insert("BACKING_MOUNT".to_owned(), mount);
    }
    if let Some(tree) = tree {
        layout.insert("MM_TREE".to_owned(), tree);
    }
    if let Some((table, id)) = segments {
        layout.insert("IPC_SEGMENTS".to_owned(), table);
        layout.insert("SEGMENT_ID".to_owned(), id);
    }
    layout.insert("FILE_DENTRY".to_owned(), dentry);
    layout.insert("DENTRY_NAME".to_owned(), name);
    layout.insert("PID_TGID_TASKS".to_owned(), head);
    layout.insert("TASK_TGID_NODE".to_owned(), node);
    Some(())
}
