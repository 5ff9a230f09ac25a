//! An error that the library passes on in one word comes out as the error that went in.

#[allow(dead_code, reason = "these are files of the library, of which only a part is needed here")]
#[path = "../src/error.rs"]
mod error;
#[allow(dead_code, reason = "as above")]
#[path = "../src/failure.rs"]
mod failure;
#[allow(dead_code, reason = "as above")]
#[path = "../src/pid.rs"]
mod pid;

use error::{Call, Errno, Error};
use failure::{Failure, found};
use pid::Pid;

/// All calls, by their places.
fn calls() -> impl Iterator<Item = Call> {
    (0..).map_while(Call::at)
}

#[test]
fn a_failure_fits_one_word_and_so_does_its_result() {
    assert_eq!(size_of::<Failure>(), 4);
    assert_eq!(size_of::<Result<(), Failure>>(), 4);
    assert_eq!(size_of::<Result<i32, Failure>>(), 8);
}

#[test]
fn every_reason_comes_out_as_it_went_in() {
    let reasons = [
        (Failure::INVALID_PATH, Error::InvalidPath),
        (Failure::NOT_A_PID_FILE, Error::NotAPidFile),
        (Failure::REPLACED, Error::Replaced),
        (Failure::NOT_LOCKED, Error::NotLocked),
        (Failure::UNTRUSTED, Error::Untrusted),
    ];
    for (failure, error) in reasons {
        assert_eq!(Error::from(failure), error);
        assert!(failure.errno() < 1, "{failure:?} is no answer of a system call");
        assert!(!failure.is_contention());
        assert_eq!(failure.holder(), None);
    }
}

#[test]
fn every_holder_comes_out_as_it_went_in() {
    let powers_of_two = (0..31).map(|bit| 1 << bit);
    for number in powers_of_two.chain([3, 4242, 32768, 65535, 65537, 4_194_304, i32::MAX - 1, i32::MAX]) {
        let holder = Pid::new(number);
        assert!(holder.is_some(), "{number}");
        let failure = Failure::locked_by(holder);
        assert!(failure.is_contention());
        assert_eq!(failure.holder(), holder);
        assert!(failure.errno() < 1, "{number}");
        assert_eq!(Error::from(failure), Error::AlreadyLocked { holder });
    }
    assert_eq!(Failure::locked_by(None), Failure::LOCKED_BY_UNKNOWN);
    assert_eq!(Error::from(Failure::LOCKED_BY_UNKNOWN), Error::AlreadyLocked { holder: None });
    assert!(Failure::LOCKED_BY_UNKNOWN.errno() < 1);
}

#[test]
fn every_call_comes_out_with_every_errno() {
    assert!(calls().any(|call| call == Call::Unlinkat), "the last of the list");
    for call in calls() {
        for errno in 1..=65535 {
            let failure = Failure::of(call, errno);
            assert_eq!(failure.errno(), errno);
            assert!(!failure.is_contention());
            assert_eq!(failure.holder(), None);
            assert_eq!(Error::from(failure), Error::Sys { call, errno: Errno::from_raw(errno) });
        }
    }
}

#[test]
fn an_errno_that_no_kernel_has_is_still_an_error_of_its_call() {
    for errno in [i32::MIN, -1, 0, 65536, i32::MAX] {
        let error = Error::from(Failure::of(Call::Flock, errno));
        assert_eq!(error, Error::Sys { call: Call::Flock, errno: Errno::Other(u16::MAX) });
    }
}

#[test]
fn no_two_calls_share_a_place() {
    let names: std::collections::BTreeSet<&str> = calls().map(Call::name).collect();
    assert_eq!(names.len(), calls().count());
}

#[test]
fn only_a_file_that_is_not_there_is_none() {
    assert_eq!(found::<()>(Err(Failure::of(Call::Openat, libc::ENOENT))), Ok(None));
    assert_eq!(found(Ok(7)), Ok(Some(7)));
    for failure in [Failure::of(Call::Openat, libc::EACCES), Failure::LOCKED_BY_UNKNOWN, Failure::INVALID_PATH] {
        assert_eq!(found::<()>(Err(failure)), Err(failure));
    }
}
