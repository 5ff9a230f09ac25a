//! The command `pidflock`: where C's `main` hands over its arguments, and nothing else.
//!
//! The same entry serves every build. Without `std`, in release, it holds no panic, no allocator and no `core::fmt`.
#![no_std]
#![no_main]
// Only the items that need it lift this, each with one `allow`.
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, missing_docs, unreachable_pub)]
// One unsafe block holds one call, and its comment says what makes the call sound.
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
// A number changes its type only by a conversion that can fail.
#![deny(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
// The command must not panic: use `get`, iterators and the `checked_` methods instead.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(any(feature = "std", debug_assertions))]
extern crate std; // for its panic handler: a library with std brings one, and a program has one. A debug build can panic.

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

/// Is never linked: it calls what does not exist, so that a panic that can be reached is an error of the linker.
#[cfg(not(any(feature = "std", debug_assertions)))]
#[panic_handler]
#[allow(unsafe_code)]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_can_be_reached() -> !;
    }
    a_panic_can_be_reached()
}
