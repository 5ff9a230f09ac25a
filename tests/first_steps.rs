//! What people meet first: a lock that is printed, one that is bound to `_`, and a file that is given away.

mod support;

use pidflock::{AsFd, AsRawFd, Error, PidLock, State, probe};
use std::{fs, os::unix::fs::MetadataExt};
use support::*;

#[test]
fn the_debug_text_of_a_lock_is_short_and_names_the_file() {
    let scratch = Scratch::new();
    let lock = PidLock::acquire(scratch.path("demo.pid")).unwrap();
    let text = format!("{lock:?}");
    assert!(text.len() < 300, "{} characters: {text}", text.len());
    assert!(text.contains("\"demo.pid\""), "{text}");
    assert!(text.contains(&lock.pid().to_string()), "{text}");
}

#[test]
fn a_lock_that_is_bound_to_an_underscore_is_released_at_once() -> Result<(), Error> {
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let _ = PidLock::acquire(path)?;
    assert_eq!(probe(path)?, State::Absent);
    let _lock = PidLock::acquire(path)?;
    assert!(matches!(probe(path)?, State::Held { .. }));
    Ok(())
}

#[test]
fn fchown_through_a_lock_gives_the_file_away_and_keeps_the_lock() {
    if !is_root() {
        return skip("only root may give files away");
    }
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let lock = PidLock::acquire(path).unwrap();
    assert_eq!(unsafe { libc::fchown(lock.as_fd().as_raw_fd(), OTHER, OTHER) }, 0);
    assert_eq!(fs::metadata(path).unwrap().uid(), OTHER);
    assert_eq!(lock.is_current(), Ok(true));
    assert_eq!(probe(path), Ok(State::Held { holder: Some(lock.pid()) }));
    lock.release().unwrap();
    assert_eq!(probe(path), Ok(State::Absent));
}
