//! The place of trace files: can they be written there, and how much fits.

use std::fs;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use crate::doctor::{Check, Lack};
use crate::host;
use crate::units::Bytes;

const NAME: &str = "output";

/// Less free space than this is worth a note: a busy process fills it within minutes.
const LITTLE: Bytes = Bytes(1 << 30);

/// One row about the directory `output`, or about where it would be made.
pub fn checks(output: &Path) -> Vec<Check> {
    vec![directory(output)]
}

fn directory(output: &Path) -> Check {
    let missing = |found: String| Check::missing(NAME, Lack::SetUp, found, "choose another directory: -o DIR");
    let shown = output.display();
    match fs::symlink_metadata(output) {
        Ok(found) if found.is_symlink() => return missing(format!("{shown} is a symbolic link")),
        Ok(found) if !found.is_dir() => return missing(format!("{shown} is no directory")),
        _ => {}
    }
    let Some(nearest) = host::nearest_directory(output) else {
        return missing(format!("{shown} is in no directory that exists"));
    };
    if let Err(error) = access(&nearest, Access::WRITE_OK | Access::EXEC_OK) {
        return missing(format!("{} cannot be written: {error}", nearest.display()));
    }
    match statvfs(&nearest) {
        Ok(space) => {
            let free = Bytes(space.f_bavail.saturating_mul(space.f_frsize));
            let found = format!("{shown}: {free} free");
            if free == Bytes(0) {
                missing(found)
            } else if free < LITTLE {
                Check::note(NAME, found, "choose a larger disk: -o DIR")
            } else {
                Check::ok(NAME, found)
            }
        }
        Err(error) => missing(format!("{}: {error}", nearest.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::doctor::Status;

    #[test]
    fn only_a_directory_or_none_yet_will_do() {
        let here = tempfile::tempdir().unwrap();
        let check = |name: &str, expected: bool| {
            let found = directory(&here.path().join(name));
            assert_eq!(!matches!(found.status, Status::Missing(_)), expected, "{found:?}");
        };
        fs::write(here.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(here.path(), here.path().join("link")).unwrap();
        check("", true);
        check("not/yet/there", true);
        check("file", false);
        check("link", false);
        // A file system without space: /proc never has any, for root neither.
        assert!(matches!(directory(Path::new("/proc/self/fd")).status, Status::Missing(_)));
    }
}
