//! The smallest program that uses the library: acquires the name in its first argument, pauses, and releases. It has no
//! signal handler, so only a signal ends the pause. `minimal.c` is the same in C.
#![no_std]
#![no_main]

use core::ffi::{CStr, c_char, c_int};
use pidflock::PidLock;

#[link(name = "c")]
unsafe extern "C" {
    safe fn pause() -> c_int;
}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    if count < 2 {
        return 1;
    }
    // SAFETY: the C library calls this with `count` arguments.
    let argument = unsafe { *arguments.wrapping_add(1) };
    // SAFETY: an argument is a string that lives as long as the program.
    let path = unsafe { CStr::from_ptr(argument) };
    match PidLock::acquire(path) {
        Ok(lock) => {
            pause();
            lock.release().is_err().into()
        }
        Err(_) => 1,
    }
}

/// Never linked in a release build, because no panic can be reached.
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
