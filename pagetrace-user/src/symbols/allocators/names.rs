//! The names of allocators' functions, and what their arguments mean.

use crate::event::ObjectCall::{self, *};

/// Which argument is what: the positions, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes asked for.
    pub size: Option<usize>,
    /// What they are multiplied by.
    pub count: Option<usize>,
    /// Memory that is taken back.
    pub old: Option<usize>,
    /// Where the function puts the address of what it gives; else it returns it.
    pub out: Option<usize>,
    /// Memory stays where it is: the function returns its size.
    pub in_place: bool,
}

impl Shape {
    /// Arguments up to the last that counts.
    #[must_use]
    pub fn arguments(&self) -> usize {
        [self.size, self.count, self.old, self.out].iter().flatten().max().map_or(0, |last| last + 1)
    }

    /// Whether the function gives memory.
    #[must_use]
    pub fn gives(&self) -> bool {
        self.size.is_some()
    }
}

/// The shape of a call.
#[must_use]
pub fn shape(call: ObjectCall) -> Shape {
    let none = Shape::default();
    match call {
        Malloc | Valloc | Pvalloc | New | NewArray | Mallocx => Shape { size: Some(0), ..none },
        Calloc => Shape { size: Some(0), count: Some(1), ..none },
        Realloc | Rallocx => Shape { old: Some(0), size: Some(1), ..none },
        Xallocx => Shape { old: Some(0), size: Some(1), in_place: true, ..none },
        Reallocarray => Shape { old: Some(0), size: Some(1), count: Some(2), ..none },
        AlignedAlloc | Memalign => Shape { size: Some(1), ..none },
        PosixMemalign => Shape { out: Some(0), size: Some(2), ..none },
        Free | Delete | DeleteArray | Dallocx | Sdallocx => Shape { old: Some(0), ..none },
    }
}

/// Whether a function may throw an exception, which leaves it without a return: its return must not be taken over.
#[must_use]
pub fn throws(call: ObjectCall, symbol: &str) -> bool {
    // Those with a `std::nothrow_t` catch what they throw themselves.
    matches!(call, New | NewArray) && !symbol.contains("nothrow")
}

/// The names of the C library's functions.
pub const C: &[(&str, ObjectCall)] = &[
    ("malloc", Malloc),
    ("calloc", Calloc),
    ("realloc", Realloc),
    ("reallocarray", Reallocarray),
    ("free", Free),
    ("posix_memalign", PosixMemalign),
    ("aligned_alloc", AlignedAlloc),
    ("memalign", Memalign),
    ("valloc", Valloc),
    ("pvalloc", Pvalloc),
    ("cfree", Free),
];

/// What a library may put before these names, in a program that has another `malloc` beside it.
pub const PREFIXES: &[&str] = &["je_", "_rjem_", "mi_", "tc_"];

/// The other names.
pub const OTHERS: &[(&str, ObjectCall)] = &[
    ("_Znwm", New),
    ("_ZnwmRKSt9nothrow_t", New),
    ("_ZnwmSt11align_val_t", New),
    ("_ZnwmSt11align_val_tRKSt9nothrow_t", New),
    ("_Znam", NewArray),
    ("_ZnamRKSt9nothrow_t", NewArray),
    ("_ZnamSt11align_val_t", NewArray),
    ("_ZnamSt11align_val_tRKSt9nothrow_t", NewArray),
    ("_ZdlPv", Delete),
    ("_ZdlPvm", Delete),
    ("_ZdlPvRKSt9nothrow_t", Delete),
    ("_ZdlPvSt11align_val_t", Delete),
    ("_ZdlPvmSt11align_val_t", Delete),
    ("_ZdlPvSt11align_val_tRKSt9nothrow_t", Delete),
    ("_ZdaPv", DeleteArray),
    ("_ZdaPvm", DeleteArray),
    ("_ZdaPvRKSt9nothrow_t", DeleteArray),
    ("_ZdaPvSt11align_val_t", DeleteArray),
    ("_ZdaPvmSt11align_val_t", DeleteArray),
    ("_ZdaPvSt11align_val_tRKSt9nothrow_t", DeleteArray),
    ("mallocx", Mallocx),
    ("rallocx", Rallocx),
    ("xallocx", Xallocx),
    ("dallocx", Dallocx),
    ("sdallocx", Sdallocx),
    ("_rjem_mallocx", Mallocx),
    ("_rjem_rallocx", Rallocx),
    ("_rjem_xallocx", Xallocx),
    ("_rjem_dallocx", Dallocx),
    ("_rjem_sdallocx", Sdallocx),
    ("mi_zalloc", Malloc),
    ("mi_malloc_aligned", Malloc),
    ("mi_zalloc_aligned", Malloc),
    ("mi_realloc_aligned", Realloc),
    ("mi_new", New),
    ("mi_new_nothrow", New),
    ("mi_free_size", Free),
    ("mi_free_size_aligned", Free),
    ("mi_free_aligned", Free),
];
