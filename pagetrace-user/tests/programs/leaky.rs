//! What `leaky.c` does, with the standard library of Rust: three places of fifty-five leak, one scatters what stays.
//!
//! usage: leaky ROUNDS   says "scattered OBJECTS PAGES": the small objects, and the pages that hold one

use std::collections::BTreeSet;
use std::hint::black_box;
use std::mem::forget;
use std::thread::{sleep, spawn};
use std::time::Duration;

const KEPT: usize = 3;
const PAIRS: usize = 4;
const SCATTERED: usize = 40;
const PAGE: usize = 4096;
const PAUSE: Duration = Duration::from_millis(1);

#[inline(never)]
fn leak_plain() {
    Box::leak(black_box(Box::new([1_u8; 700]))); // LEAK plain
}

#[inline(never)]
fn leak_resized() {
    let mut object = black_box(Vec::<u8>::with_capacity(100));
    object.reserve_exact(900); // LEAK resized
    forget(black_box(object));
}

#[inline(never)]
fn leak_elsewhere() {
    forget(black_box(Vec::<u8>::with_capacity(500))); // LEAK elsewhere
}

#[inline(never)]
fn scatter() -> usize {
    let object = black_box(Box::new([1_u8; SCATTERED])); // FRAG
    Box::leak(object).as_ptr() as usize
}

#[inline(never)]
fn honest_batch() -> Vec<u8> {
    black_box(vec![1; 4000])
}

/// Takes back what it gave some rounds ago.
#[inline(never)]
fn honest_ring<const N: usize>(round: usize, kept: &mut [Vec<u8>; KEPT]) {
    kept[round % KEPT] = black_box(Vec::with_capacity(500 + 40 * N));
}

/// A table that is filled in the first rounds, and stays.
#[inline(never)]
fn honest_table<const N: usize>(round: usize) {
    if round < 5 {
        forget(black_box(Vec::<u8>::with_capacity(20_000 + N)));
    }
    black_box(Vec::<u8>::with_capacity(64 + N));
}

macro_rules! all {
    ($($ring:literal)*; $($table:literal)*; $round:expr, $kept:expr) => {
        $(honest_ring::<$ring>($round, &mut $kept[$ring]);)*
        $(honest_table::<$table>($round);)*
    };
}

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(200);
    let mut kept: [[Vec<u8>; KEPT]; 30] = Default::default();
    let mut scattered = Vec::with_capacity(rounds * PAIRS);
    let mut batch = Vec::with_capacity(rounds * PAIRS);
    // First of all, before there is room of others between what is in use.
    for _ in 0..rounds {
        for _ in 0..PAIRS {
            batch.push(honest_batch());
            scattered.push(scatter());
        }
        sleep(PAUSE);
    }
    for round in 0..rounds {
        all!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29;
             0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; round, kept);
        leak_plain();
        leak_resized();
        spawn(leak_elsewhere).join().unwrap();
        sleep(PAUSE);
    }
    drop(batch);
    let pages: BTreeSet<usize> = scattered.iter().flat_map(|addr| [addr / PAGE, (addr + SCATTERED - 1) / PAGE]).collect();
    println!("scattered {} {}", scattered.len(), pages.len());
}
