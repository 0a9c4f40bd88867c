//! What an exec left mapped: the program, its interpreter, the first stack. No system call tells it.
//!
//! *Context.* The task that executed, which alone knows its new address space: the tree of mappings rests.
//! *Source.* lib/maple_tree.c: a leaf is a `maple_range_64`, what is above it a `maple_arange_64`; a node is told by its address
//! and, in the low bits, its type; entries end where a pivot is 0 or the node's last.

use core::ptr::{read_volatile, write_volatile};

use pagetrace_common::record::{self, IMAGE_FILE_WORDS, IMAGE_FILES, IMAGE_ROW_WORDS, IMAGE_ROWS};

use crate::{emit::Hook, layout, path, task::word};

/// Slots of a leaf, and of the only other kind of node in a tree that knows its gaps, as that of mappings does.
const RANGE_SLOTS: u64 = 16;
const ARANGE_SLOTS: u64 = 10;
/// A bit of the tree's first node alone, and those of any that are not its address.
const IS_ROOT: u64 = 2;
const NODE_BITS: u64 = 255;
/// Types of nodes (`enum maple_type`): below this are leaves.
const MAPLE_RANGE_64: u64 = 2;

#[repr(C)]
struct File {
    words: [u64; IMAGE_FILE_WORDS],
    path: path::Text,
}

#[repr(C)]
struct Image {
    rows: [[u64; IMAGE_ROW_WORDS]; IMAGE_ROWS],
    files: [File; IMAGE_FILES],
}

/// Emits the [`record::INTRO`] of an address space that an exec made, with its mappings.
#[inline(always)]
pub fn emit(hook: Hook, acting: u64, number: u32, mut payload: [u64; 8]) -> Option<u64> {
    let mm = payload[0];
    payload[5] = word(mm + layout::MM_START_CODE.load());
    payload[6] = word(mm + layout::MM_START_STACK.load());
    hook.emit_filled(acting, (record::INTRO, record::HOW_EXECUTED), number, payload, |image: *mut Image| {
        // SAFETY: the space of an image, which is written before it is read.
        unsafe { fill(mm, image) }
    })
}

/// The bytes of the image, and how many rows it has.
///
/// What loops count is kept in the image: to the verifier a number in memory is one number, whatever way led to it.
///
/// # Safety
/// `image` is the space of one.
#[inline(always)]
unsafe fn fill(mm: u64, image: *mut Image) -> u64 {
    // SAFETY: places in the image: indices are checked where they are no constants.
    unsafe {
        let count = (&raw mut (*image).files).cast::<u64>();
        gather(mm, &raw mut (*image).rows, count);
        let rows = read_volatile(count);
        if rows > IMAGE_ROWS as u64 {
            return 0;
        }
        for at in 0..IMAGE_FILES {
            (*image).files[at].words[1] = 0;
        }
        write_volatile(count, 0);
        let mut last = 0;
        for at in 0..IMAGE_ROWS {
            if at as u64 >= rows {
                break;
            }
            let row = (&raw mut (*image).rows).cast::<[u64; IMAGE_ROW_WORDS]>().add(at);
            let mapping = (*row)[0];
            let file = word(mapping + layout::VMA_FILE.load());
            let mut place = 0;
            if file != 0 {
                place = read_volatile(count);
                if file != last {
                    if place >= IMAGE_FILES as u64 {
                        return 0;
                    }
                    (*(&raw mut (*image).files).cast::<File>().add(place as usize)).words[1] = file;
                    place += 1;
                    write_volatile(count, place);
                    last = file;
                }
            }
            let flags = word(mapping + layout::VMA_FLAGS.load());
            (*row)[0] = word(mapping + layout::VMA_START.load());
            (*row)[1] = word(mapping + layout::VMA_END.load());
            (*row)[2] = flags & 0xffff_ffff | place << 32;
            (*row)[3] = word(mapping + layout::VMA_PAGE.load()) << 12;
        }
        for at in 0..IMAGE_FILES {
            let to = (&raw mut (*image).files).cast::<File>().add(at);
            let file = (*to).words[1];
            if file == 0 {
                break;
            }
            let [device, inode] = path::identity(file);
            (*to).words = [path::put(file, &raw mut (*to).path), device, inode];
        }
        rows << 32 | size_of::<Image>() as u64
    }
}

/// Puts the addresses of all mappings into the first words of the rows, and into `count` how many they are: more than there are
/// rows where that is not known.
///
/// # Safety
/// `rows` and `count` are such places.
#[inline(always)]
unsafe fn gather(mm: u64, rows: *mut [[u64; IMAGE_ROW_WORDS]; IMAGE_ROWS], count: *mut u64) {
    let root = word(mm + layout::MM_TREE.load()) & !IS_ROOT;
    // A tree with one node is its own leaf.
    let is_leaf = is_leaf(root);
    let (slots, pivots) = (layout::RANGE_SLOTS.load(), layout::RANGE_PIVOTS.load());
    let (nodes, ends) = (layout::ARANGE_SLOTS.load(), layout::ARANGE_PIVOTS.load());
    // SAFETY: the caller's promise; the place of a row is checked.
    unsafe {
        write_volatile(count, 0);
        for at in 0..ARANGE_SLOTS {
            let (leaf, end) = if is_leaf { (root, u64::MAX) } else { entry(root, at, ARANGE_SLOTS, (nodes, ends)) };
            if !self::is_leaf(leaf) {
                return write_volatile(count, u64::MAX);
            }
            for at in 0..RANGE_SLOTS {
                let (mapping, pivot) = entry(leaf, at, RANGE_SLOTS, (slots, pivots));
                if mapping != 0 {
                    let found = read_volatile(count);
                    if found >= IMAGE_ROWS as u64 {
                        return write_volatile(count, u64::MAX);
                    }
                    (*rows.cast::<[u64; IMAGE_ROW_WORDS]>().add(found as usize))[0] = mapping;
                    write_volatile(count, found + 1);
                }
                if pivot >= end {
                    break;
                }
            }
            if end == u64::MAX {
                break;
            }
        }
    }
}

/// Whether a node has mappings and not other nodes.
#[inline(always)]
fn is_leaf(node: u64) -> bool {
    node >> 3 & 15 < MAPLE_RANGE_64
}

/// What stands in a slot of a node, and up to where it goes; the greatest address where that is the node's own end.
#[inline(always)]
fn entry(node: u64, slot: u64, count: u64, (slots, pivots): (u64, u64)) -> (u64, u64) {
    let at = node & !NODE_BITS;
    let pivot = if slot + 1 < count { word(at + pivots + slot * 8) } else { 0 };
    (word(at + slots + slot * 8), if pivot == 0 { u64::MAX } else { pivot })
}
