//! A recorder leaves no trace in its targets, at whatever moment it ends while it attaches or detaches, and however.
//!
//! *Targets.* Sixteen processes of one Go program that checks its own work (`churn.go`). The recorder is told of them by
//! their numbers, which makes a link for each, or by their name, which makes one for all: the seed decides.
//! *Moments.* At random, of the time from the journal to the last breakpoint, which is measured first, or when a random
//! one of the breakpoints comes or goes. `PAGETRACE_TEST_SEED` is the seed, which is printed.
//! *How many.* `PAGETRACE_TEST_ROUNDS` of each kind instead of the few that are enough to see that a kind works.
//! *Older kernels.* Their way, a perf event a point, by a library that answers for the kernel (`faults.c`).

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::crowd::{Chance, Crowd, Kernel, assert_complete, churn, churn_file, journals_of, setting};
use crate::recorder::Recorder;
use crate::stage::{Stage, wait_for};
use crate::texts::Text;

/// How many rounds of a kind: as many as are asked for, or these.
fn rounds(usual: u64) -> u64 {
    setting("PAGETRACE_TEST_ROUNDS", usual)
}

/// Kills recorders while they attach, and every third while it detaches; then starts another, which puts back.
fn kill(kernel: Kernel, usual: u64) {
    let stage = Stage::enter("window");
    let mut chance = Chance::begin("killed");
    let mut crowd = Crowd::gather(&stage, kernel, &mut chance);
    let (mut noted, mut halfway, mut left, mut left_bytes) = (0, 0, 0, 0);
    let began = Instant::now();
    let mut after = None;
    let rounds = rounds(usual);
    for round in 0..rounds {
        let pause = (round % 3 == 2).then(|| chance.within(crowd.window()));
        let recorder = crowd.record();
        crowd.await_attaching(&recorder);
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        } else if round % 3 == 0 {
            crowd.await_breakpoint(&mut chance, true);
        } else {
            recorder.await_recording();
            recorder.signal(Signal::INT);
            crowd.await_breakpoint(&mut chance, false);
        }
        let pid = recorder.pid();
        recorder.signal(Signal::KILL);
        // At once: the text and the journals are others' to mend from now on.
        let journals = journals_of(pid).len();
        let standing = crowd.standing();
        recorder.kill();
        let (foreign, most) = (crowd.foreign(), crowd.most());
        noted += u64::from(journals > 0);
        halfway += u64::from(journals > 0 && standing < most);
        left += u64::from(foreign > 0);
        left_bytes += foreign;
        let next = crowd.record_other();
        assert_eq!(crowd.foreign(), 0, "round {round}, killed with {standing} of {most}, {foreign} left");
        assert!(journals_of(pid).is_empty(), "round {round}");
        crowd.check_work();
        // Its end takes its time, in which the next round begins.
        after.replace(next).into_iter().for_each(assert_complete);
    }
    after.into_iter().for_each(assert_complete);
    println!(
        "{rounds} kills in {:.1?}: {noted} left a journal, {halfway} of them came before the last breakpoint stood or \
         after the first was gone; {left} left breakpoints, {left_bytes} in all, and each was put back",
        began.elapsed()
    );
    assert!(noted > 0, "kills at the wrong moments");
    crowd.dismiss();
}

#[test]
fn killed_in_its_window() {
    kill(Kernel::This, 2);
}

#[test]
fn killed_in_its_window_on_an_older_kernel() {
    kill(Kernel::Older, 1);
}

/// What ends a recorder that can still act, and its exit code. The user signals make system calls fail in a way after which
/// the libraries above them panic (`faults.c`).
const ENDS: [(&str, Signal, Option<i32>); 4] = [
    ("SIGTERM", Signal::TERM, Some(0)),
    ("panic of the first thread", Signal::USR1, Some(101)),
    ("SIGINT", Signal::INT, Some(0)),
    ("panic of the thread that attaches", Signal::USR2, Some(1)),
];

/// Ends recorders while they attach. Nobody comes to put back.
#[test]
fn ended_in_its_window() {
    let stage = Stage::enter("window");
    let mut chance = Chance::begin("ended");
    let mut crowd = Crowd::gather(&stage, Kernel::This, &mut chance);
    let (mut halfway, mut late) = (0, Duration::ZERO);
    let began = Instant::now();
    let rounds = rounds(ENDS.len() as u64);
    for round in 0..rounds {
        let pause = (round as usize / ENDS.len() % 2 == 1).then(|| chance.within(crowd.window()));
        let recorder = crowd.record();
        let (how, signal, code) = ENDS[round as usize % ENDS.len()];
        crowd.await_attaching(&recorder);
        match pause {
            Some(pause) => std::thread::sleep(pause),
            None => crowd.await_breakpoint(&mut chance, true),
        }
        recorder.signal(signal);
        let (standing, most) = (crowd.standing(), crowd.most());
        halfway += u64::from(standing < most);
        let pid = recorder.pid();
        let ended = recorder.ended();
        let at_its_end = Instant::now();
        let what = format!("round {round}, {how} with {standing} of {most} breakpoints");
        assert_eq!(ended.code, code, "{what}: {ended:?}");
        if signal != Signal::USR1 {
            assert_eq!(crowd.foreign(), 0, "{what}: {ended:?}");
            assert!(journals_of(pid).is_empty(), "{what}: a journal is left");
        }
        // What was attached as a whole goes by itself.
        wait_for(&what, || (crowd.foreign() == 0).then_some(()));
        late = late.max(at_its_end.elapsed());
        crowd.check_work();
    }
    println!(
        "{rounds} ends in {:.1?}: {halfway} came before the last breakpoint stood; none was left {late:?} after a \
         recorder's end",
        began.elapsed()
    );
    crowd.dismiss();
}

/// Recorders side by side, again and again, on a program that has no rest.
#[test]
fn attached_and_detached_under_load() {
    /// Recorders at a time.
    const LANES: u64 = 4;
    let stage = Stage::enter("window");
    let file = churn_file(&stage);
    let mut target = churn(&file, "8", "0", "4");
    let text = Text::of(target.pid(), &file);
    let pid = target.pid().to_string();
    let began = Instant::now();
    let rounds = rounds(LANES).div_ceil(LANES);
    let lost: u64 = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (traces, pid) = (stage.join(&format!("lane-{lane}")), &pid);
                scope.spawn(move || {
                    let args = ["--pid", pid, "-d", "20ms", "--max-loss", "1000000000"];
                    let record = |_| {
                        let ended = Recorder::launch(&traces, args).ended();
                        assert_eq!(ended.code, Some(0), "{ended:?}");
                        assert!(ended.stderr.contains("is recorded at"), "{ended:?}");
                        std::fs::remove_dir_all(&traces).unwrap();
                        ended.summary["dropped"].as_u64().unwrap_or(0)
                    };
                    (0..rounds).map(record).sum::<u64>()
                })
            })
            .collect();
        while !lanes.iter().all(|lane| lane.is_finished()) {
            target.act();
        }
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    assert!(text.foreign().is_empty());
    let said = target.act();
    println!("{} recordings in {:?}: the program has {said:?}, {lost} records lost", rounds * LANES, began.elapsed());
    target.finish();
}
