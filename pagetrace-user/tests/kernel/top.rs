//! `top PID` in a terminal: what is on the screen is what the kernel says, and nothing stays behind.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use pagetrace_user::units::Bytes;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::procfs::{children, mappings, rss_bytes};
use crate::programs::{Target, freeze, program, send};
use crate::recorder::{BINARY, Recorder, report};
use crate::stage::{Stage, wait_for};
use crate::texts::{Text, own_copy};

/// What a program says before it draws over the whole screen.
const ALTERNATE: &[u8] = b"\x1b[?1049h";

/// A program in a terminal of 24 lines of 80, which a terminal's emulation reads. Killed when dropped.
struct Screen {
    child: Child,
    master: File,
    /// Held, so that the terminal's modes can be looked at when the program has gone.
    slave: File,
    modes_before: String,
    drawn: Receiver<Vec<u8>>,
    parser: vt100::Parser,
}

impl Screen {
    fn start(command: &mut Command) -> Screen {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let modes_before = modes(&slave);
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(master);
        let mut from = master.try_clone().unwrap();
        let (to, drawn) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                if to.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Screen { child, master, slave, modes_before, drawn, parser: vt100::Parser::default() }
    }

    /// What is on the screen now.
    fn text(&mut self) -> String {
        for bytes in self.drawn.try_iter() {
            self.parser.process(&bytes);
        }
        self.parser.screen().contents()
    }

    fn await_text(&mut self, what: &str) {
        wait_for(&format!("{what:?} on the screen"), || self.text().contains(what).then_some(()));
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        tcsetwinsize(&self.slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        self.text();
        self.parser = vt100::Parser::new(NonZero::new(rows).unwrap(), NonZero::new(columns).unwrap(), 0);
        self.parser.process(ALTERNATE);
        send(self.child.id(), Signal::WINCH);
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn code(&mut self) -> Option<i32> {
        wait_for("the end of the screen", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The modes of a terminal, as text: their types do not compare.
fn modes(terminal: &File) -> String {
    let modes = tcgetattr(terminal).unwrap();
    format!("{:?} {:?} {:?} {:?}", modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes)
}

#[test]
fn a_process_on_the_screen() {
    let stage = Stage::enter("top");
    let temporary = stage.directory("tmp");
    let program = own_copy(&stage, &program("touch"), "touched");
    let mut target = Target::run(Command::new(&program).args(["sleep", "67108864"])).ready();
    let libc = mappings(target.pid()).into_iter().find_map(|(_, name)| name.ends_with("/libc.so.6").then_some(name));
    let text = Text::of(target.pid(), Path::new(&libc.unwrap()));
    let mut screen = Command::new(BINARY);
    screen.arg("top").arg(target.pid().to_string()).env("TMPDIR", &temporary).env("TERM", "xterm-256color");
    // So that there are breakpoints in the target that may stay.
    screen.env("PAGETRACE_OBJECTS", "true");
    let mut screen = Screen::start(&mut screen);
    screen.await_text(&format!("RSS {} ", Bytes(rss_bytes(target.pid()))));
    let recorder = wait_for("the recorder", || children(screen.child.id()).first().copied());
    assert_ne!(text.foreign().len(), 0, "its allocator is recorded");
    assert_ne!(modes(&screen.slave), screen.modes_before);
    target.act();
    freeze(target.pid());
    let grown = rss_bytes(target.pid());
    screen.await_text(&format!("RSS {} ", Bytes(grown)));
    for word in ["lost 0 records", "anomalies 0", "unexplained 0 B", " 1 ranges ", "+32.0 MiB", "[anonymous]"] {
        screen.await_text(word);
    }
    // A moment of the past, a list, and the end again.
    screen.press("\u{1b}[H");
    screen.await_text("in the past");
    screen.press("2");
    screen.press("\u{1b}[F");
    screen.await_text(&format!("RSS {} ", Bytes(grown)));
    // A smaller terminal. It is not the screen's controlling one, so the kernel does not tell.
    screen.resize(10, 40);
    screen.await_text("0 s, at most ");
    wait_for("a screen without room for the books", || (!screen.text().contains("class ")).then_some(()));
    screen.press("?");
    screen.await_text("Left, Right");
    screen.press(" ");
    screen.press("q");
    assert_eq!(screen.code(), Some(0), "{}", screen.text());
    assert!(!Path::new(&format!("/proc/{recorder}")).exists(), "the recorder has gone");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "and its directory");
    wait_for("the screen that was there before", || {
        screen.text();
        (!screen.parser.screen().alternate_screen()).then_some(())
    });
    assert_eq!(modes(&screen.slave), screen.modes_before);
    assert_eq!(text.foreign().len(), 0, "no breakpoint stays");
    target.signal(Signal::CONT);
    target.finish();
}

#[test]
fn what_cannot_be_recorded_gives_the_terminal_back_and_says_why() {
    let _stage = Stage::enter("top");
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let mut command = Command::new(BINARY);
    let mut screen = Screen::start(command.arg("top").arg(gone.id().to_string()).env("TERM", "xterm-256color"));
    assert_eq!(screen.code(), Some(3), "{}", screen.text());
    screen.await_text("error: ");
    screen.await_text("why: ");
    assert!(!screen.parser.screen().alternate_screen());
    assert_eq!(modes(&screen.slave), screen.modes_before);
}

#[test]
fn a_signal_that_ends_the_screen_ends_the_recording_too() {
    let stage = Stage::enter("top");
    let temporary = stage.directory("tmp");
    let target = Target::start("touch", ["sleep", "8192"]).ready();
    let mut command = Command::new(BINARY);
    command.arg("top").arg(target.pid().to_string()).env("TMPDIR", &temporary).env("TERM", "xterm-256color");
    let mut screen = Screen::start(&mut command);
    screen.await_text(&format!("RSS {} ", Bytes(rss_bytes(target.pid()))));
    let recorder = wait_for("the recorder", || children(screen.child.id()).first().copied());
    send(screen.child.id(), Signal::TERM);
    assert_eq!(screen.code(), Some(0), "{}", screen.text());
    assert!(!Path::new(&format!("/proc/{recorder}")).exists(), "the recorder has gone");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "and its directory");
    assert_eq!(modes(&screen.slave), screen.modes_before);
    target.finish();
}

#[test]
fn a_trace_that_is_kept_lies_beside_older_ones() {
    let stage = Stage::enter("top");
    let traces = stage.join("traces");
    let target = Target::start("touch", ["sleep", "8192"]).ready();
    let older = Recorder::of_pid(&traces, target.pid()).interrupt().file();
    let mut command = Command::new(BINARY);
    command.args(["top", &target.pid().to_string(), "-o"]).arg(&traces).env("TERM", "xterm-256color");
    let mut screen = Screen::start(&mut command);
    // The older one is complete.
    screen.await_text("unfinished");
    screen.press("q");
    assert_eq!(screen.code(), Some(0), "{}", screen.text());
    screen.await_text("read it: pagetrace-user report");
    let names = std::fs::read_dir(&traces).unwrap().map(|entry| entry.unwrap().path());
    let newer: Vec<PathBuf> = names.filter(|path| *path != older).collect();
    assert_eq!(newer.len(), 1, "{newer:?}");
    assert_eq!(report(&newer[0])["rss_bytes"].as_u64(), Some(rss_bytes(target.pid())));
    target.finish();
}

#[test]
fn a_screen_that_is_killed_ends_the_recording_too() {
    let stage = Stage::enter("top");
    let traces = stage.join("traces");
    let target = Target::start("touch", ["sleep", "8192"]).ready();
    let mut command = Command::new(BINARY);
    command.args(["top", &target.pid().to_string(), "-o"]).arg(&traces).env("TERM", "xterm-256color");
    let mut screen = Screen::start(&mut command);
    screen.await_text("unfinished");
    send(screen.child.id(), Signal::KILL);
    let finished = wait_for("a finished trace", || {
        let paths = std::fs::read_dir(&traces).unwrap().map(|entry| entry.unwrap().path());
        paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "pgt"))
    });
    assert_eq!(report(&finished)["file_state"], "complete");
    target.finish();
}
