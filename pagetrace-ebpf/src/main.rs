//! The kernel side of pagetrace: programs that read fields and emit records. No policy lives here that the
//! recorder could hold.
//!
//! *Source of the fields.* Arguments of raw tracepoints are the `TP_PROTO` of the kernel's trace headers; every
//! offset into a kernel structure is a load-time value that the recorder took from the running kernel's BTF
//! ([`layout`]).
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod calls;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod fault;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod heap;
#[cfg(target_arch = "bpf")]
mod image;
#[cfg(target_arch = "bpf")]
mod layout;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod object;
#[cfg(target_arch = "bpf")]
mod owner;
#[cfg(target_arch = "bpf")]
mod path;
#[cfg(target_arch = "bpf")]
mod process;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod rss;
#[cfg(target_arch = "bpf")]
mod scan;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod tcmalloc;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SANITY: no program has a panicking path: the verifier refuses the endless loop otherwise.
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// On any other target the crate is empty: it is there for editors and `cargo check --workspace`.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
