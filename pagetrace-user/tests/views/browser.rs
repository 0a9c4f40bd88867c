//! A browser, on a file of its own: what it makes of it, and what it complains about.

use std::fs;
use std::process::Command;

/// The document after its scripts have run, and what was said on the console; the name's extension says what it is.
pub fn browsed(name: &str, document: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, document).unwrap();
    let profile = format!("--user-data-dir={}", dir.path().join("profile").display());
    let output = Command::new("timeout")
        .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking", "--enable-logging=stderr"])
        .args(["--window-size=390,844", "--virtual-time-budget=5000", "--dump-dom", &profile])
        .arg(format!("file://{}", path.display()))
        .env("HOME", dir.path())
        .output()
        .unwrap();
    let [dom, log] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}: {log}", output.status);
    (dom, log.lines().filter(|line| line.contains(":CONSOLE")).collect::<Vec<_>>().join("\n"))
}
