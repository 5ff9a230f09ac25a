//! Filters and file systems that support only some calls: a refused call changes no result that another call can give.
//!
//! A seccomp filter of a child simulates the kernel.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod support;

use pidflock::{Call, Errno, Error, Holder, Pid, PidLock, Signal, State, Wait, probe, wait_released};
use std::{
    fs,
    sync::atomic::{AtomicI32, Ordering::Relaxed},
    time::Duration,
};
use support::*;

/// Calls that are newer than Linux 4.11, or than a filter.
const NEWER: [libc::c_long; 3] = [libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_statx];

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn receive(_: libc::c_int) {
    RECEIVED.fetch_add(1, Relaxed);
}

/// A holder that counts its signals until the test ends it.
struct Counting {
    child: Child,
    end: Pipe,
}

impl Counting {
    fn new(path: &str) -> Counting {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let child = fork(|| {
            for signal in [libc::SIGUSR1, libc::SIGUSR2] {
                unsafe { libc::signal(signal, receive as *const () as libc::sighandler_t) };
            }
            let lock = PidLock::acquire(path).unwrap();
            ready.send(0);
            end.receive();
            lock.release().unwrap();
            RECEIVED.load(Relaxed)
        });
        ready.receive();
        Counting { child, end }
    }

    fn pid(&self) -> Pid {
        Pid::new(self.child.pid).unwrap()
    }

    fn received(self) -> End {
        self.end.send(0);
        self.child.wait()
    }
}

/// Every operation on a holder from outside.
fn look_and_signal(path: &str, pid: Pid) {
    let refused = Error::AlreadyLocked { holder: Some(pid) };
    assert_eq!(probe(path), Ok(State::Held { holder: Some(pid) }));
    assert_eq!(PidLock::acquire(path).map(drop), Err(refused));
    assert_eq!(PidLock::options().wait(Wait::For(SHORT)).acquire(path).map(drop), Err(refused));
    assert_eq!(pidflock::signal(path, Signal::USR1), Ok(pid));
    let found = Holder::find(path).unwrap();
    assert_eq!(found.signal(Signal::USR2), Ok(()));
    assert_eq!(found.wait(Wait::For(SHORT)), Err(refused));
}

/// Queries and signals in a child whose filter answers these calls in this way.
fn under_a_filter(path: &str, calls: &[libc::c_long], answer: Answer) {
    let holder = Counting::new(path);
    let asker = fork(|| {
        for call in calls {
            filter(*call, None, answer);
        }
        look_and_signal(path, holder.pid());
        0
    });
    assert_eq!(asker.wait(), End::Exit(0), "{calls:?} {answer:?}");
    assert_eq!(holder.received(), End::Exit(2), "{calls:?} {answer:?}");
}

#[test]
fn a_newer_call_that_a_filter_refuses_does_not_decide() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES, libc::ENODEV] {
        for call in NEWER {
            under_a_filter(path, &[call], Answer::Error(errno));
        }
        under_a_filter(path, &NEWER, Answer::Error(errno));
        // Then the process cannot be watched.
        under_a_filter(path, &[libc::SYS_ppoll, libc::SYS_pidfd_send_signal], Answer::Error(errno));
    }
}

/// On an overlay, the kernel prints other numbers than stat(2), so only the file itself decides.
#[test]
fn a_newer_call_that_a_filter_refuses_does_not_decide_on_an_overlay() {
    if !is_root() {
        return skip("only root may mount");
    }
    let scratch = Scratch::new();
    let inside = fork(|| {
        let Some(directory) = private_mounts().then(|| overlay(&scratch)).flatten() else { return NOT_ALLOWED };
        let path: &str = &format!("{directory}/x.pid");
        for errno in [libc::EPERM, libc::ENOSYS] {
            under_a_filter(path, &[libc::SYS_statx], Answer::Error(errno));
        }
        // A daemon whose launcher has ended: /proc/locks does not name it, so only its descriptors are evidence.
        let (ready, end) = (Pipe::new(), Pipe::new());
        let launcher = fork(|| {
            let lock = PidLock::acquire(path).unwrap();
            let daemon = fork(|| {
                lock.restamp().unwrap();
                ready.send(lock.pid().get());
                end.receive();
                0
            });
            std::mem::forget((lock, daemon));
            0
        });
        let daemon = Pid::new(ready.receive()).unwrap();
        launcher.wait();
        let asker = fork(|| {
            filter(libc::SYS_statx, None, Answer::Error(libc::EPERM));
            assert_eq!(pidflock::signal(path, Signal::CHECK), Ok(daemon));
            0
        });
        let asked = asker.wait();
        end.send(0);
        i32::from(asked != End::Exit(0))
    });
    match inside.wait() {
        End::Exit(NOT_ALLOWED) => skip("no overlay to mount here"),
        end => assert_eq!(end, End::Exit(0)),
    }
}

/// An overlay of two file systems: a file has the device of its layer, and the lock has the device of the overlay.
fn overlay(scratch: &Scratch) -> Option<String> {
    let mount = |kind: &str, target: &str, options: &str| {
        let [kind, target, options] = [kind, target, options].map(|text| std::ffi::CString::new(text).unwrap());
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) == 0 }
    };
    let [lower, upper, over] = ["lower", "upper", "over"].map(|name| scratch.path(name));
    for directory in [lower, upper, over] {
        fs::create_dir(directory).unwrap();
    }
    let layers = mount("tmpfs", lower, "") && mount("tmpfs", upper, "");
    for directory in [scratch.path("upper/top"), scratch.path("upper/work")] {
        fs::create_dir(directory).unwrap();
    }
    let options = format!("lowerdir={lower},upperdir={upper}/top,workdir={upper}/work,xino=off");
    (layers && mount("overlay", over, &options)).then(|| over.to_owned())
}

/// A filter may kill for an unknown call: Android before 12, and systemd's `SystemCallFilter=`.
#[test]
#[cfg(pidflock_no_pidfd)]
fn a_build_without_pidfds_makes_no_call_for_which_a_strict_filter_kills() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    under_a_filter(path, &NEWER, Answer::Kill);
    let _holder = Counting::new(path);
    for (arguments, code) in
        [(&["status", path][..], 0), (&["run", path, "true"], 75), (&["stop", "-s0", "-t0", path], 75)]
    {
        use std::os::unix::process::CommandExt;
        let mut command = pidflock();
        let filters = || {
            NEWER.iter().for_each(|call| filter(*call, None, Answer::Kill));
            Ok(())
        };
        let output = unsafe { command.args(arguments).pre_exec(filters) }.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}

/// Runs in a child where flock cannot wait, as on virtiofs. Linux sends an unlock without `LOCK_NB` as a waiting request, too.
fn without_waiting_locks(errno: libc::c_int, work: impl FnOnce()) {
    let child = fork(|| {
        filter(libc::SYS_flock, Some((1, libc::LOCK_NB)), Answer::Error(errno));
        work();
        0
    });
    assert_eq!(child.wait(), End::Exit(0), "errno {errno}");
}

const NO_WAITING: [libc::c_int; 3] = [libc::EOPNOTSUPP, libc::ENOSYS, libc::EWOULDBLOCK];

#[test]
fn where_flock_cannot_wait_a_name_is_acquired_released_and_probed() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for errno in NO_WAITING {
        without_waiting_locks(errno, || {
            for remove in [true, false] {
                let lock = PidLock::options().remove_on_release(remove).acquire(path).unwrap();
                assert_eq!(lock.release(), Ok(()));
                assert_eq!(fs::exists(path).unwrap(), !remove);
            }
            assert_eq!(probe(path), Ok(State::Free { stale: None }));
            assert_eq!(wait_released(path, Wait::Never), Ok(()));
            // Nothing is locked any more, even if a child has a copy of the descriptor.
            let lock = PidLock::options().remove_on_release(false).acquire(path).unwrap();
            let _copy = fork(|| unsafe { libc::pause() });
            lock.release().unwrap();
            PidLock::acquire(path).unwrap().release().unwrap();
        });
    }
}

#[test]
fn where_flock_cannot_wait_a_waiter_polls() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for errno in NO_WAITING {
        for acquire in [true, false] {
            let holder = Counting::new(path);
            let (started, through) = (Pipe::new(), Pipe::new());
            let waiter = fork(|| {
                without_waiting_locks(errno, || {
                    started.send(0);
                    if acquire {
                        PidLock::options().wait(Wait::Forever).acquire(path).unwrap().release().unwrap();
                    } else {
                        wait_released(path, Wait::Forever).unwrap();
                    }
                    through.send(0);
                });
                0
            });
            started.receive();
            assert_eq!(through.receive_within(20), None);
            assert_eq!(holder.received(), End::Exit(0));
            through.receive();
            assert_eq!(waiter.wait(), End::Exit(0));
        }
    }
}

#[test]
fn where_flock_cannot_wait_a_holder_is_stopped() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for errno in NO_WAITING {
        let holder = Counting::new(path);
        without_waiting_locks(errno, || {
            let found = Holder::find(path).unwrap();
            assert_eq!(found.signal(Signal::USR1), Ok(()));
            holder.end.send(0);
            assert_eq!(found.wait(Wait::For(LONG)), Ok(()));
            assert_eq!(probe(path), Ok(State::Absent));
        });
        assert_eq!(holder.child.wait(), End::Exit(1));
    }
}

/// If the kernel refuses the unlock, the close that follows unlocks.
#[test]
fn a_release_whose_unlock_is_refused_still_releases() {
    let scratch = Scratch::new();
    let paths = [scratch.path("removed"), scratch.path("emptied")];
    let child = fork(|| {
        let locks = [true, false].map(|remove| {
            let path = paths[usize::from(!remove)];
            (PidLock::options().remove_on_release(remove).acquire(path).unwrap(), path, remove)
        });
        filter(libc::SYS_flock, Some((1, libc::LOCK_EX)), Answer::Error(libc::EIO)); // neither an acquire nor a query makes this call
        for (lock, path, remove) in locks {
            assert_eq!((lock.release(), fs::exists(path).unwrap()), (Ok(()), !remove));
        }
        0
    });
    assert_eq!(child.wait(), End::Exit(0));
    for path in paths {
        assert!(matches!(probe(path), Ok(State::Absent | State::Free { stale: None })));
    }
}

#[test]
fn where_nothing_can_be_flushed_a_stamp_counts_as_flushed() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let nothing_to_flush = [libc::EINVAL, libc::EROFS, libc::ENOSYS, libc::EOPNOTSUPP];
    let lost = [libc::EIO, libc::ENOSPC, libc::EDQUOT];
    for errno in [&nothing_to_flush[..], &lost].concat() {
        let child = fork(|| {
            filter(libc::SYS_fsync, None, Answer::Error(errno));
            let acquired = PidLock::acquire(path).map(drop);
            let failed = Error::Sys { call: Call::Fsync, errno: Errno::from_raw(errno) };
            assert_eq!(acquired, if lost.contains(&errno) { Err(failed) } else { Ok(()) });
            0
        });
        assert_eq!(child.wait(), End::Exit(0), "errno {errno}");
        assert!(!fs::exists(path).unwrap(), "errno {errno}");
    }
}

/// Contention is never reported as a failed call, whichever call reports it.
#[test]
fn would_block_is_contention_from_every_call_that_asks_for_the_file() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let refused = Err(Error::AlreadyLocked { holder: None });
    let asks = [(libc::SYS_flock, 1, 0), (libc::SYS_openat, 2, libc::O_DIRECTORY)]; // opening the directory still works
    for (call, argument, bits) in asks {
        let child = fork(|| {
            let lock = PidLock::options().remove_on_release(false).acquire(path).unwrap();
            let fd = lock.hand_over().unwrap();
            filter(call, Some((argument, bits)), Answer::Error(libc::EWOULDBLOCK));
            let mut results = vec![
                PidLock::acquire(path).map(drop),
                PidLock::acquire(scratch.path("new")).map(drop),
                PidLock::options().wait(Wait::For(SHORT)).acquire(path).map(drop),
                wait_released(path, Wait::For(SHORT)),
                probe(path).map(|state| assert!(matches!(state, State::Held { .. }))).and(refused),
            ];
            if call == libc::SYS_flock {
                results.push(PidLock::adopt(fd, path).map(drop));
            }
            for result in results {
                assert!(matches!(result, Err(Error::AlreadyLocked { .. })), "call {call}: {result:?}");
            }
            0
        });
        assert_eq!(child.wait(), End::Exit(0), "call {call}");
        let _ = fs::remove_file(path);
    }
}
