//! Files as they are called: the components of a path, across mounts, and device and inode.
//!
//! *Source.* fs/d_path.c, prepend_path: a path ends where a mount is its own parent. A dentry that is not hashed was removed.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use pagetrace_common::record::{PATH_IS_WHOLE, PATH_WORDS};

use crate::{
    layout,
    task::{read, word},
};

/// Components and mounts on the way at most.
const MOST_STEPS: u32 = 32;
/// `NAME_MAX` and the zero behind it (include/uapi/linux/limits.h).
const COMPONENT_BYTES: u64 = 256;
/// include/linux/err.h.
const MAX_ERRNO: i64 = 4095;

/// Room for a path.
pub type Text = [u64; PATH_WORDS];

/// Device and inode, as the kernel shows them to the process.
#[inline(always)]
pub fn identity(file: u64) -> [u64; 2] {
    let shown = Shown::of(file);
    let inode = word(if shown.is_backed {
        shown.dentry + layout::DENTRY_INODE.load()
    } else {
        file + layout::FILE_INODE.load()
    });
    let block = word(inode + layout::INODE_SB.load());
    let device: u32 = read(block + layout::SB_DEV.load());
    [u64::from(device), word(inode + layout::INODE_INO.load())]
}

/// What a file is shown as.
struct Shown {
    dentry: u64,
    mount: u64,
    /// The file itself stands below, on a mount of the kernel's own: that of a stacked file system.
    is_backed: bool,
}

impl Shown {
    /// NOTE: the bit that tells such a file from others is another one from 6.14 on. Where the path of one stands, others have
    /// anything: taken is what is a dentry and a mount of one file system.
    #[inline(always)]
    fn of(file: u64) -> Shown {
        let mount = word(file + layout::FILE_MOUNT.load());
        if layout::BACKING_DENTRY.load() != 0 && !is_in_namespace(mount - layout::MOUNT_EMBEDDED.load()) {
            let dentry = word(file + layout::BACKING_DENTRY.load());
            let mount = word(file + layout::BACKING_MOUNT.load());
            let block = word(dentry + layout::DENTRY_SB.load());
            if block != 0 && block == word(mount + layout::EMBEDDED_SB.load()) {
                return Shown { dentry, mount: mount - layout::MOUNT_EMBEDDED.load(), is_backed: true };
            }
        }
        let dentry = word(file + layout::FILE_DENTRY.load());
        Shown { dentry, mount: mount - layout::MOUNT_EMBEDDED.load(), is_backed: false }
    }
}

/// Whether a mount is in some mount namespace. The kernel's own have none, or an error in its place.
#[inline(always)]
fn is_in_namespace(mount: u64) -> bool {
    let namespace = word(mount + layout::MOUNT_NAMESPACE.load());
    namespace != 0 && namespace < -MAX_ERRNO as u64
}

/// Puts the components of a file's path into `text`; their bytes, and [`PATH_IS_WHOLE`].
#[inline(always)]
pub fn put(file: u64, text: *mut Text) -> u64 {
    let Shown { mut dentry, mut mount, .. } = Shown::of(file);
    let is_there = word(dentry + layout::DENTRY_HASHED.load()) != 0;
    let mut bytes = 0;
    let mut told = 0;
    for _ in 0..MOST_STEPS {
        if layout::MOUNT_ROOT.load() != 0 && dentry == word(mount + layout::MOUNT_ROOT.load()) {
            let above = word(mount + layout::MOUNT_PARENT.load());
            if above == mount {
                told = if is_there && is_in_namespace(mount) { PATH_IS_WHOLE } else { 0 };
                break;
            }
            dentry = word(mount + layout::MOUNT_POINT.load());
            mount = above;
            continue;
        }
        if bytes > PATH_WORDS as u64 * 8 - COMPONENT_BYTES {
            break;
        }
        let name = word(dentry + layout::DENTRY_NAME.load());
        // SAFETY: a place in the text with room for a component; the helper checks the address and ends the component.
        let taken = unsafe {
            let to = text.cast::<u8>().add(bytes as usize);
            bpf_probe_read_kernel_str(to.cast(), COMPONENT_BYTES as u32, name as *const core::ffi::c_void)
        };
        if taken <= 0 {
            break;
        }
        // More than there can be: the verifier is to see one range of numbers, however many components there were.
        bytes = (bytes + taken as u64) & (2 * PATH_WORDS as u64 * 8 - 1);
        let parent = word(dentry + layout::DENTRY_PARENT.load());
        if layout::MOUNT_ROOT.load() == 0 || parent == dentry {
            break;
        }
        dentry = parent;
    }
    bytes | told
}
