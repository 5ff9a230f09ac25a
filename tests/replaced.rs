//! A file that keeps vanishing between two calls is opened again, a hundred times and no more.
//!
//! No program can replace a file at the right instant a hundred times in a row. So this one has its own `fstatat`, which can
//! report another file.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]

mod support;

use pidflock::{Error, PidLock, Signal, State, Wait, probe, read_pid_from, signal, wait_released};
use std::{
    ffi::{c_char, c_int},
    fs,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use support::*;

/// How often `fstatat` will still report another file.
static LIES: AtomicU32 = AtomicU32::new(0);

/// Replaces the C library's. On 64-bit systems its twin for large files is the same call.
#[unsafe(no_mangle)]
extern "C" fn fstatat(directory: c_int, name: *const c_char, stat: *mut libc::stat, flags: c_int) -> c_int {
    let returned = unsafe { libc::fstatat64(directory, name, stat.cast(), flags) };
    if returned == 0 && LIES.fetch_update(Relaxed, Relaxed, |lies| lies.checked_sub(1)).is_ok() {
        unsafe { (*stat).st_ino ^= 1 };
    }
    returned
}

/// The result of the operation if the name leads to another file this many times. All of them must have been reported.
fn after<T>(lies: u32, operation: impl FnOnce() -> T) -> T {
    LIES.store(lies, Relaxed);
    let result = operation();
    assert_eq!(LIES.swap(0, Relaxed), 0, "not looked at {lies} times");
    result
}

#[test]
fn a_file_that_was_replaced_ninety_nine_times_is_acquired() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    for lies in [1, 2, 50, 99] {
        let lock = after(lies, || PidLock::acquire(path)).unwrap();
        assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
        lock.release().unwrap();
    }
}

#[test]
fn acquire_gives_up_on_a_file_that_was_replaced_a_hundred_times() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    fs::write(path, "").unwrap();
    assert_eq!(after(100, || PidLock::acquire(path)).err(), Some(Error::Replaced));
    assert!(!is_locked(path));
    PidLock::acquire(path).unwrap().release().unwrap();
}

#[test]
fn a_query_gives_up_after_a_hundred_times_too() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    fs::write(path, "4242\n").unwrap();
    assert!(matches!(after(99, || probe(path)), Ok(State::Free { stale: Some(_) })));
    assert_eq!(after(99, || wait_released(path, Wait::Never)), Ok(()));
    assert_eq!(after(100, || probe(path)), Err(Error::Replaced));
    assert_eq!(after(100, || wait_released(path, Wait::Forever)), Err(Error::Replaced));
    assert_eq!(after(100, || signal(path, Signal::CHECK)), Err(Error::Replaced));
    assert_eq!(fs::read(path).unwrap(), b"4242\n");
}

#[test]
fn a_stale_file_that_was_replaced_is_not_removed() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    fs::write(path, "4242\n").unwrap();
    assert_eq!(after(100, || PidLock::acquire(path)).err(), Some(Error::Replaced));
    assert_eq!(fs::read(path).unwrap(), b"4242\n");
}
