//! A process in a container: namespaces of its own, and a file system that shares nothing with the host's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::objects::{calls_of, leaks_said, live, objects};
use crate::programs::Target;
use crate::recorder::{Recorder, report, run, run_command};
use crate::stage::Stage;

/// A container of runc's that runs the program with `arguments`, ended and removed when dropped.
struct Container {
    name: String,
    target: Option<Target>,
}

impl Container {
    /// Copies the program and what it is linked with into a file system of its own, and runs it there.
    fn start(stage: &Stage, program: &Path, arguments: &[&str]) -> Container {
        let root = stage.directory("bundle/rootfs");
        let mut files = vec![(program.to_owned(), root.join("program"))];
        let told = run_command(Command::new("ldd").arg(program));
        for path in told.stdout.split_whitespace().filter(|word| word.starts_with('/')) {
            files.push((PathBuf::from(path), root.join(path.trim_start_matches('/'))));
        }
        assert!(files.len() >= 3, "the program, its loader and libc: {files:?}");
        for (from, to) in files {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
        fs::create_dir_all(root.join("proc")).unwrap();
        let bundle = stage.join("bundle");
        let made = run_command(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle));
        assert_eq!(made.code, Some(0), "runc spec: {}", made.stderr);
        let file = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let words: Vec<&str> = ["/program"].iter().chain(arguments).copied().collect();
        config["process"]["args"] = json!(words);
        config["process"]["terminal"] = json!(false);
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
        fs::write(&file, config.to_string()).unwrap();
        let name = format!("pagetrace-test-{}", std::process::id());
        let target = Target::run(Command::new("runc").args(["run", "--bundle"]).arg(&bundle).arg(&name)).ready();
        Container { name, target: Some(target) }
    }

    /// The number on the host of its first process.
    fn pid(&self) -> u32 {
        let told = run_command(Command::new("runc").args(["state", &self.name]));
        let state: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("runc state: {}", told.stderr));
        u32::try_from(state["pid"].as_u64().unwrap()).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("runc").args(["delete", "--force", &self.name]).output();
        drop(self.target.take());
    }
}

#[test]
fn objects_of_a_process_in_a_container() {
    let stage = Stage::enter("container");
    let mut container = Container::start(&stage, &objects(), &["attach"]);
    let pid = container.pid();
    for space in ["mnt", "pid"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{space}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "a {space} namespace of its own");
    }
    let doctor = run(["doctor", "--json", "--pid", &pid.to_string()]);
    let doctor: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let libc = doctor["targets"][0]["allocators"][0]["allocator"].as_str().unwrap_or_default();
    assert!(libc.starts_with("glibc"), "{}", doctor["targets"]);

    let recorder = Recorder::start(stage.path(), ["--objects", "--sample", "0", "--pid", &pid.to_string()]);
    let said = container.target.as_mut().unwrap().act();
    let report = report(&recorder.interrupt().file());
    let found = calls_of(&report);
    assert_eq!((found["malloc"].0, found["realloc"].0, found["free"].0), (1000, 501, 909));
    assert_eq!(live(&report), leaks_said(&said.join("\n")));
    assert_eq!((&report["lost"], &report["unexplained_bytes"]), (&json!(0), &json!(0)));
}
