//! Asks std's allocator for memory in each way that it has, and leaves some of it.
//!
//! usage: leaks          says "leaks OBJECTS BYTES", which nobody will ever give back
//!        leaks nothing  what std itself asks for

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

/// More than `malloc` aligns by itself.
const ALIGN: usize = 256;

#[derive(Default)]
struct Leaks {
    objects: usize,
    bytes: usize,
}

impl Leaks {
    fn of(&mut self, bytes: usize) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

fn main() {
    let mut leaks = Leaks::default();
    if std::env::args().nth(1).is_none() {
        boxes(&mut leaks);
        vectors(&mut leaks);
        strings(&mut leaks);
        collections(&mut leaks);
        aligned(&mut leaks);
        panics();
    }
    println!("leaks {} {}", leaks.objects, leaks.bytes);
}

fn boxes(leaks: &mut Leaks) {
    for number in 0..1000_u64 {
        let array = black_box(Box::new([number; 6]));
        if number % 10 == 0 {
            Box::leak(array);
            leaks.of(48);
        }
        black_box(Box::new(number));
    }
    // Two counters stand before the value.
    std::mem::forget(black_box(Rc::new([1_u8; 104])));
    leaks.of(120);
    std::mem::forget(black_box(Arc::new(7_u64)));
    leaks.of(24);
    // Nothing is asked for of what has no size.
    black_box(Box::new(()));
}

fn vectors(leaks: &mut Leaks) {
    let mut grown = Vec::new();
    for number in 0..5000_u32 {
        grown.push(black_box(number));
    }
    leaks.of(grown.capacity() * 4);
    black_box(grown.leak());
    // Zeroed by the allocator.
    let zeroed = black_box(vec![0_u8; 70_000]);
    leaks.of(zeroed.len());
    zeroed.leak();
    let mut shrunk = Vec::<u64>::with_capacity(1000);
    shrunk.extend(0..10);
    black_box(&mut shrunk).shrink_to_fit();
    leaks.of(80);
    shrunk.leak();
    black_box((0..300).map(|len| vec![len as u8; len]).collect::<Vec<_>>());
}

fn strings(leaks: &mut Leaks) {
    let mut text = String::new();
    for number in 0..200 {
        text += black_box(&format!("{number:03} "));
    }
    let text = black_box(text).into_boxed_str();
    leaks.of(800);
    Box::leak(text);
}

fn collections(leaks: &mut Leaks) {
    let mut tree = BTreeMap::new();
    let mut table = HashMap::new();
    for number in 0..2000_u64 {
        tree.insert(black_box(number), number.to_string());
        table.insert(black_box(number), Box::new(number));
    }
    // The table goes, its boxes stay.
    for number in table.into_values() {
        Box::leak(black_box(number));
        leaks.of(8);
    }
}

fn aligned(leaks: &mut Leaks) {
    let of = |bytes| Layout::from_size_align(bytes, ALIGN).unwrap();
    // SAFETY: each layout is the one that the memory was asked for with, and has a size.
    unsafe {
        black_box(alloc(of(1000)));
        leaks.of(1000);
        black_box(alloc_zeroed(of(2000)));
        leaks.of(2000);
        black_box(realloc(alloc(of(300)), of(300), 3000));
        leaks.of(3000);
        dealloc(black_box(alloc(of(4000))), of(4000));
    }
}

/// A panic is memory too, and goes when it is caught.
fn panics() {
    std::panic::set_hook(Box::new(|_| {}));
    for number in 0..10 {
        let caught = std::panic::catch_unwind(|| {
            let _held = black_box(vec![1_u8; 500]);
            std::panic::panic_any(number);
        });
        assert!(caught.is_err_and(|what| what.is::<i32>()));
    }
    drop(std::panic::take_hook());
}
