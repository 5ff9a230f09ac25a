//! A daemon without std and without an allocator: `no-std-daemon PIDFILE`. TERM ends it.
#![no_std]
#![no_main]

use core::{
    ffi::{CStr, c_char, c_int},
    mem::MaybeUninit,
    ptr,
};
use pidflock::{Error, PidLock};

#[link(name = "c")]
unsafe extern "C" {}

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    if count != 2 {
        return 64;
    }
    // SAFETY: the C library calls this with `count` arguments.
    let path = unsafe { *arguments.wrapping_add(1) };
    // SAFETY: an argument is a string that lives as long as the program.
    match serve(unsafe { CStr::from_ptr(path) }) {
        Ok(()) => 0,
        Err(Error::AlreadyLocked { .. }) => 75,
        Err(_) => 71,
    }
}

fn serve(path: &CStr) -> Result<(), Error> {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: it makes an empty set of what is there.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    // SAFETY: the pointer is to that set.
    unsafe { libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM) };
    // SAFETY: as above, and the old set is not asked for. First: a TERM that comes early releases, too.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, signals.as_ptr(), ptr::null_mut()) };
    let lock = PidLock::acquire(path)?;
    let mut signal = 0;
    // SAFETY: both pointers are to values of ours.
    unsafe { libc::sigwait(signals.as_ptr(), &raw mut signal) };
    lock.release()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it takes nothing, and does not return.
    unsafe { libc::abort() }
}
