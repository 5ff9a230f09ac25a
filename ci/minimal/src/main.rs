//! The smallest program that uses the library: takes the name in its first argument, waits for a signal handler, which
//! it has not, and lets go. `minimal.c` is the same in C.
#![no_std]
#![no_main]

use core::ffi::{c_char, c_int};
use pidflock::{PidLock, command::Arguments};

#[link(name = "c")]
unsafe extern "C" {
    safe fn pause() -> c_int;
}

#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: the C library calls this, once, with the arguments of the program.
    let mut arguments = unsafe { Arguments::new(arguments) };
    match arguments.nth(1).map(PidLock::acquire) {
        Some(Ok(lock)) => {
            pause();
            lock.release().is_err().into()
        }
        _ => 1,
    }
}

/// Is never linked in a release build: no panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(not(debug_assertions))]
    {
        unsafe extern "C" {
            safe fn a_panic_can_be_reached() -> !;
        }
        a_panic_can_be_reached()
    }
    #[cfg(debug_assertions)]
    loop {}
}
