//! Which system calls an operation makes, how often, and how it handles rare results.
#![cfg(all(target_os = "linux", target_pointer_width = "64", feature = "std"))]

mod harness;
mod support;

use harness::trace::{self, MARK, Stop, Syscall, Traced, mark};
use pidflock::{Call, Errno, Error, Holder, PidLock, Signal, Wait};
use std::{
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    time::Duration,
};
use support::*;

/// Runs the work in a child, and returns the calls that it makes after `begin`. The kernel does not make a call that `answer`
/// answers. None if tracing is impossible.
fn calls_of(work: impl FnOnce(), answer: impl Fn(i32, &Syscall) -> Option<i64>) -> Option<Vec<Syscall>> {
    if let Some(reason) = trace::impossible() {
        skip(&reason);
        return None;
    }
    let mut traced = Traced::spawn(|| (work(), 0).1).unwrap();
    let (mut begun, mut calls) = (false, vec![]);
    loop {
        match traced.go_on() {
            Stop::Entry(call) if call.number == libc::SYS_prctl && call.int(0) == MARK => begun = call.int(1) == BEGIN,
            Stop::Entry(call) if begun => {
                calls.push(call);
                if let Some(result) = answer(traced.pid, &call) {
                    traced.replace(result);
                }
            }
            Stop::Ended(end) => {
                assert_eq!(end, End::Exit(0), "the child found something wrong, see above");
                return Some(calls);
            }
            _ => {}
        }
    }
}

const BEGIN: i32 = 20;
const END: i32 = 21;

fn is_sleep(call: &Syscall) -> bool {
    matches!(call.number, libc::SYS_nanosleep | libc::SYS_clock_nanosleep)
}

/// Skips sleeps.
fn no_sleep(_: i32, call: &Syscall) -> Option<i64> {
    is_sleep(call).then_some(0)
}

/// How often it tried the name.
fn tries(calls: &[Syscall]) -> usize {
    calls.iter().filter(|call| call.number == libc::SYS_flock && call.int(1) & libc::LOCK_EX != 0).count()
}

fn numbers(calls: &[Syscall], wanted: &[i64]) -> Vec<i64> {
    calls.iter().map(|call| call.number).filter(|number| wanted.contains(number)).collect()
}

/// A file with this text that the test has locked.
fn locked(path: &str, content: &str, kind: i32) -> fs::File {
    fs::write(path, content).unwrap();
    let file = fs::File::open(path).unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), kind) }, 0);
    file
}

#[test]
fn a_held_name_is_retried_only_if_it_may_be_free() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let me = format!("{}\n", std::process::id());
    for (content, kind, expected) in [
        (&*me, libc::LOCK_EX, 1),           // somebody holds it, and says who
        ("", libc::LOCK_EX, 7),             // it may say so in a moment
        ("2147483647\n", libc::LOCK_EX, 7), // a dead process: the same
        ("", libc::LOCK_SH, 41),            // nobody holds it
        (&*me, libc::LOCK_SH, 41),          // whatever it says
    ] {
        let _file = locked(path, content, kind);
        let refused = || {
            mark(BEGIN);
            let result = PidLock::acquire(path);
            mark(END);
            assert!(matches!(result, Err(Error::AlreadyLocked { .. })));
        };
        let Some(calls) = calls_of(refused, no_sleep) else { return };
        assert_eq!(tries(&calls), expected, "{content:?}, {kind}");
    }
}

#[test]
fn a_waiter_polls_slowly_beside_a_holder_and_fast_without_one() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let me = format!("{}\n", std::process::id());
    for (content, kind, at_least, at_most) in [
        (&*me, libc::LOCK_EX, 2_000_000, 4_000_000),
        ("", libc::LOCK_EX, 1_000, 100_000),
        ("", libc::LOCK_SH, 1_000, 100_000),
    ] {
        let _file = locked(path, content, kind);
        let refused = || {
            mark(BEGIN);
            let result = PidLock::options().wait(Wait::For(Duration::from_millis(10))).acquire(path);
            mark(END);
            assert!(matches!(result, Err(Error::AlreadyLocked { .. })));
        };
        let first = std::cell::Cell::new(None);
        let look = |pid, call: &Syscall| {
            let time = match call.number {
                libc::SYS_ppoll => nanoseconds(pid, call.arguments[2]),
                libc::SYS_nanosleep => nanoseconds(pid, call.arguments[0]),
                libc::SYS_clock_nanosleep => nanoseconds(pid, call.arguments[2]),
                _ => 0,
            };
            if time > 0 && first.get().is_none() {
                first.set(Some(time));
            }
            None
        };
        if calls_of(refused, look).is_none() {
            return;
        }
        let first = first.get().unwrap();
        assert!((at_least..=at_most).contains(&first), "{content:?}, {kind}: {first} ns");
    }
}

/// Reads a timespec of another process.
fn nanoseconds(pid: i32, address: u64) -> i64 {
    let mut bytes = [0; 16];
    fs::File::open(format!("/proc/{pid}/mem")).unwrap().read_exact_at(&mut bytes, address).unwrap();
    let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    word(0) * 1_000_000_000 + word(8)
}

#[test]
fn a_stamp_truncates_only_a_longer_text() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let (write, cut) = (libc::SYS_pwrite64, libc::SYS_ftruncate);
    let own = std::process::id().to_string().len() + 1;
    for (length, expected) in [
        (0, &[write][..]),
        (own, &[write]), // as long as ours, unless the child's PID has more digits
        (own + 2, &[write, cut]),
        (32, &[write, cut]),
        (33, &[cut, write]),
    ] {
        let acquire = || {
            let claim = "1".repeat(length.saturating_sub(1));
            fs::write(path, if length == 0 { claim } else { claim + "\n" }).unwrap();
            if length == own && std::process::id().to_string().len() + 1 != own {
                fs::write(path, format!("{}\n", std::process::id())).unwrap();
            }
            mark(BEGIN);
            let lock = PidLock::acquire(path).unwrap();
            mark(END);
            assert_eq!(fs::read_to_string(path).unwrap(), format!("{}\n", lock.pid()));
            lock.release().unwrap();
        };
        let Some(calls) = calls_of(acquire, |_, _| None) else { return };
        assert_eq!(numbers(&calls, &[write, cut]), expected, "{length} bytes before");
    }
}

#[test]
fn a_file_that_vanishes_before_its_removal_counts_as_removed() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    for (errno, expected) in [
        (libc::ENOENT, Ok(())),
        (libc::EBUSY, Err(Error::Sys { call: Call::Unlinkat, errno: Errno::from_raw(libc::EBUSY) })),
    ] {
        let release = || {
            let lock = PidLock::acquire(path).unwrap();
            mark(BEGIN);
            let result = lock.release();
            mark(END);
            assert_eq!(result, expected);
        };
        let refused = |_, call: &Syscall| (call.number == libc::SYS_unlinkat).then_some(-i64::from(errno));
        if calls_of(release, refused).is_none() {
            return;
        }
        // A file that cannot be removed is emptied. A file that was gone needs nothing.
        assert_eq!(fs::metadata(path).unwrap().size() == 0, expected.is_err());
    }
}

#[test]
fn a_holder_that_dies_just_before_the_signal_is_not_locked() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let lock = PidLock::acquire(path).unwrap();
    let says = |errno| Err(Error::Sys { call: Call::PidfdSendSignal, errno: Errno::from_raw(errno) });
    // EPERM may come from a filter, so kill decides.
    for (errno, expected) in
        [(libc::ESRCH, Err(Error::NotLocked)), (libc::EPERM, Ok(())), (libc::EINVAL, says(libc::EINVAL))]
    {
        let signal = || {
            let holder = Holder::find(path).unwrap();
            mark(BEGIN);
            let result = holder.signal(Signal::CHECK);
            mark(END);
            assert_eq!(result, expected);
        };
        let refused = |_, call: &Syscall| (call.number == libc::SYS_pidfd_send_signal).then_some(-i64::from(errno));
        if calls_of(signal, refused).is_none() {
            return;
        }
    }
    lock.release().unwrap();
}

#[test]
fn a_holder_that_dies_while_we_find_it_has_no_name() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let lock = PidLock::acquire(path).unwrap();
    let find = || {
        mark(BEGIN);
        let result = Holder::find(path).map(drop);
        mark(END);
        assert_eq!(result, Err(Error::AlreadyLocked { holder: None }));
    };
    let second = std::cell::Cell::new(false);
    let dies = |_, call: &Syscall| {
        let opens = call.number == libc::SYS_pidfd_open;
        (opens && second.replace(true)).then_some(-i64::from(libc::ESRCH))
    };
    if calls_of(find, dies).is_some() {
        lock.release().unwrap();
    }
}

#[test]
fn a_dead_process_is_not_named_where_there_are_no_pidfds() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let me = i32::try_from(std::process::id()).unwrap();
    for (claim, holder) in [(me, pidflock::Pid::new(me)), (i32::MAX, None)] {
        let _file = locked(path, &format!("{claim}\n"), libc::LOCK_EX);
        let refused = || {
            mark(BEGIN);
            let result = PidLock::acquire(path).map(drop);
            mark(END);
            assert_eq!(result, Err(Error::AlreadyLocked { holder }));
        };
        let answer = |pid, call: &Syscall| match call.number {
            libc::SYS_pidfd_open => Some(-i64::from(libc::ENOSYS)),
            _ => no_sleep(pid, call),
        };
        if calls_of(refused, answer).is_none() {
            return;
        }
    }
}

/// Does not count the call of std that checks a descriptor before its close, in a debug build.
#[test]
fn a_release_asks_for_the_lock_before_it_touches_the_file_and_makes_at_most_eight_calls() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    for (keep, touch) in [(false, libc::SYS_unlinkat), (true, libc::SYS_ftruncate)] {
        let release = || {
            let lock = PidLock::options().remove_on_release(!keep).acquire(path).unwrap();
            mark(BEGIN);
            let result = lock.release();
            mark(END);
            assert_eq!(result, Ok(()));
        };
        let Some(mut calls) = calls_of(release, |_, _| None) else { return };
        calls.retain(|call| call.number != libc::SYS_fcntl || call.int(1) != libc::F_GETFD);
        let asked = |call: &Syscall| call.number == libc::SYS_flock && call.int(1) == libc::LOCK_EX | libc::LOCK_NB;
        let position = |wanted: &dyn Fn(&Syscall) -> bool| calls.iter().position(wanted);
        let touched = position(&|call| call.number == touch);
        assert!(touched.is_some());
        assert!(position(&asked).is_some_and(|asked| Some(asked) < touched), "keep {keep}: {calls:?}");
        assert!(calls.len() <= 8, "keep {keep}: {calls:?}");
    }
}

/// A file system that has nothing to flush returns one of these.
#[test]
fn a_file_system_without_fsync_does_not_fail_a_stamp() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    for (errno, good) in [(libc::EINVAL, true), (libc::EROFS, true), (libc::ENOSYS, true), (libc::EIO, false)] {
        let acquire = || {
            mark(BEGIN);
            let result = PidLock::acquire(path);
            mark(END);
            let failed = Error::Sys { call: Call::Fsync, errno: Errno::from_raw(errno) };
            assert_eq!(result.as_ref().err(), if good { None } else { Some(&failed) });
            assert_eq!(fs::exists(path).unwrap(), good);
        };
        let answer = |_, call: &Syscall| (call.number == libc::SYS_fsync).then_some(-i64::from(errno));
        if calls_of(acquire, answer).is_none() {
            return;
        }
    }
}
