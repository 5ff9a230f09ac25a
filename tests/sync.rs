//! A stamp is flushed unless `sync(false)` is set.
//!
//! Only a power cut could show the difference. So this program has its own `fsync`, which counts.
#![cfg(target_os = "linux")]

mod support;

use pidflock::PidLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use support::*;

static SYNCS: AtomicU32 = AtomicU32::new(0);

/// Replaces the C library's.
#[unsafe(no_mangle)]
extern "C" fn fsync(_: i32) -> i32 {
    SYNCS.fetch_add(1, Relaxed);
    0
}

#[test]
fn a_stamp_is_flushed_unless_it_was_asked_not_to_be() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    for (sync, times) in [(true, 1), (false, 0)] {
        let lock = PidLock::options().sync(sync).acquire(path).unwrap();
        assert_eq!(SYNCS.swap(0, Relaxed), times, "acquire with sync({sync})");
        lock.restamp().unwrap();
        assert_eq!(SYNCS.swap(0, Relaxed), times, "restamp with sync({sync})");
    }
    drop(PidLock::acquire(path).unwrap());
    assert_eq!(SYNCS.swap(0, Relaxed), 1, "by default");
}
