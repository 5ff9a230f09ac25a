//! The command `pidflock`: C's `main` passes on its arguments, and nothing else.
//!
//! Every build uses this entry. Without `std`, in release, the command has no panic, no allocator and no `core::fmt`.
#![no_std]
#![no_main]
// Only the items that need it lift this, each with one `allow`.
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, missing_docs, unreachable_pub)]
// Each unsafe block holds one call, and its comment says why the call is sound.
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
// Numbers change type only by conversions that can fail.
#![deny(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
// The command must not panic: use `get`, iterators and the `checked_` methods instead.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(any(feature = "std", debug_assertions))]
extern crate std; // for its panic handler, which a library with std already brings. A debug build can panic.

mod command;

use command::sys::Arguments;
use core::ffi::{c_char, c_int};

#[link(name = "c")]
#[allow(unsafe_code)]
unsafe extern "C" {}

#[unsafe(no_mangle)]
#[allow(unsafe_code)]
extern "C" fn main(_count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: the C library calls this, once, with the arguments of the program.
    let arguments = unsafe { Arguments::new(arguments) };
    command::main(arguments).into()
}

/// Never linked: it calls a function that does not exist. If a panic can be reached, the link fails.
#[cfg(not(any(feature = "std", debug_assertions)))]
#[panic_handler]
#[allow(unsafe_code)]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_can_be_reached() -> !;
    }
    a_panic_can_be_reached()
}
