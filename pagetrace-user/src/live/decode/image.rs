//! What an exec left mapped, and files as the kernel names them.
//!
//! *Source.* include/linux/mm.h, `VM_*`; fs/proc/task_mmu.c for the names of mappings without a file.

use pagetrace_common::record::{IMAGE_FILE_WORDS, IMAGE_ROW_WORDS, IMAGE_ROWS, PATH_IS_WHOLE, PATH_WORDS};

use crate::units::{Bytes, Range};

/// The bits of `vm_flags` that are `PROT_*`.
const PROT: u64 = 7;
const PROT_EXEC: u64 = 4;
const VM_MAYSHARE: u64 = 0x80;
const VM_PFNMAP: u64 = 0x400;

/// A file as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    pub dev: u64,
    pub ino: u64,
    /// Its path from the root on; else the last component.
    pub name: String,
    pub is_whole: bool,
}

impl FileKey {
    /// Of the words `[path, device, inode]` of a record, and the text.
    pub(super) fn of([path, device, ino]: [u64; 3], text: &[u64]) -> FileKey {
        let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let text = bytes.get(..(path & 0xffff_ffff) as usize).unwrap_or_default();
        // A zero stands behind each component, the last one of the path comes first.
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        let parts = text.split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part));
        let is_whole = path & PATH_IS_WHOLE != 0;
        let mut parts: Vec<_> = parts.take(if is_whole { usize::MAX } else { 1 }).collect();
        if is_whole {
            parts.push("".into());
            parts.reverse();
        }
        // As /proc shows them. The kernel's own device number: 12 bits of major, 20 of minor (include/linux/kdev_t.h).
        let name = parts.join("/").replace('\n', "\\012");
        FileKey { dev: (device >> 20) << 32 | device & 0xf_ffff, ino, name, is_whole }
    }
}

/// A mapping that an exec made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    pub range: Range,
    pub prot: u32,
    pub shared: bool,
    pub offset: Bytes,
    pub file: Option<FileKey>,
    /// What /proc calls it, without a file.
    pub name: &'static str,
}

/// All mappings that an exec made, and where in them the program begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub rows: Vec<ImageRow>,
    pub start_code: u64,
}

impl Image {
    /// Of a record's tail with so many rows; `None` where there are none.
    pub(super) fn of((count, start_code, start_stack): (u64, u64, u64), tail: &[u64]) -> Option<Image> {
        let (rows, files) = tail.split_at_checked(IMAGE_ROWS * IMAGE_ROW_WORDS)?;
        let file = |place: usize| {
            let words = files.chunks(IMAGE_FILE_WORDS + PATH_WORDS).nth(place)?;
            let (fixed, text) = words.split_first_chunk::<IMAGE_FILE_WORDS>()?;
            Some(FileKey::of(*fixed, text))
        };
        let rows = rows.chunks(IMAGE_ROW_WORDS).take(usize::try_from(count).unwrap_or(0));
        let rows: Vec<ImageRow> = rows
            .filter_map(|row| {
                let [start, end, flags, offset] = *row else { return None };
                let file = usize::try_from(flags >> 32).ok()?.checked_sub(1).and_then(file);
                let name = match &file {
                    Some(_) => "",
                    None if start <= start_stack && start_stack <= end => "[stack]",
                    None if flags & VM_PFNMAP != 0 => "[vvar]",
                    None if flags & PROT_EXEC != 0 => "[vdso]",
                    None => "",
                };
                let shared = flags & VM_MAYSHARE != 0;
                let offset = Bytes(if file.is_some() { offset } else { 0 });
                Some(ImageRow { range: Range { start, end }, prot: (flags & PROT) as u32, shared, offset, file, name })
            })
            .collect();
        (!rows.is_empty()).then_some(Image { rows, start_code })
    }

    /// The program's own file.
    #[must_use]
    pub fn program(&self) -> Option<&FileKey> {
        self.rows.iter().find(|row| row.range.contains(self.start_code))?.file.as_ref()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Components as a record has them, and their bytes.
    fn text(components: &str) -> ([u64; PATH_WORDS], u64) {
        let mut words = [0; PATH_WORDS];
        for (word, bytes) in words.iter_mut().zip(components.as_bytes().chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        (words, components.len() as u64)
    }

    #[track_caller]
    fn check(components: &str, whole: u64, name: &str) {
        let (text, bytes) = text(components);
        let key = FileKey::of([bytes | whole, 0x0fe0_0001, 7], &text);
        assert_eq!((key.name.as_str(), key.is_whole), (name, whole != 0), "{components:?}");
        assert_eq!((key.dev, key.ino), (0xfe_u64 << 32 | 1, 7));
    }

    #[test]
    fn paths_from_the_last_component_outward() {
        check("true\0bin\0usr\0", PATH_IS_WHOLE, "/usr/bin/true");
        check("vmlinuz\0", PATH_IS_WHOLE, "/vmlinuz");
        check("two\nlines\0", PATH_IS_WHOLE, "/two\\012lines");
        check("deep\0down\0", 0, "deep");
        check("memfd:x\0", 0, "memfd:x");
        check("", 0, "");
        check("cut", 0, "cut");
    }

    #[test]
    fn an_image_has_rows_and_their_files() {
        let row = |start: u64, flags: u64| [start, start + 0x1000, flags, 0x2000];
        let rows =
            [row(0x1000, 5 | 1 << 32), row(0x2000, 3 | 2 << 32), row(0x3000, 0x81), row(0x4000, 0x401), row(0x5000, 5)];
        let mut tail: Vec<u64> = rows.iter().flatten().copied().collect();
        tail.extend(row(0x6000, 0x103));
        tail.resize(IMAGE_ROWS * IMAGE_ROW_WORDS, 99);
        for name in ["prog\0bin\0", "ld.so\0"] {
            let (text, bytes) = text(name);
            tail.extend([bytes | PATH_IS_WHOLE, 1, 2]);
            tail.extend(text);
        }
        let image = Image::of((6, 0x1010, 0x6800), &tail).unwrap();
        let told: Vec<_> = image.rows.iter().map(|row| (row.prot, row.shared, row.offset.0, row.name)).collect();
        let expected = [
            (5, false, 0x2000, ""),
            (3, false, 0x2000, ""),
            (1, true, 0, ""),
            (1, false, 0, "[vvar]"),
            (5, false, 0, "[vdso]"),
            (3, false, 0, "[stack]"),
        ];
        assert_eq!(told, expected);
        assert_eq!(image.program().unwrap().name, "/bin/prog");
        assert_eq!(image.rows[1].file.as_ref().unwrap().name, "/ld.so");
        assert_eq!(Image::of((0, 0, 0), &tail), None);
        assert_eq!(Image::of((6, 0, 0), &[]), None);
        assert_eq!(Image::of((u64::MAX, 0, 0), &tail).unwrap().rows.len(), IMAGE_ROWS);
    }
}
