//! Processes that share an open file share one lock: no operation of one may undo the lock of another.
#![cfg(all(target_os = "linux", target_pointer_width = "64", feature = "std"))]

mod harness;
mod support;

use harness::trace::{BEGIN, Stop, Syscall, follow, mark};
use pidflock::{Call, Errno, Error, PidLock};
use std::{
    fs,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};
use support::*;

fn is(call: &Syscall, numbers: &[i64]) -> bool {
    numbers.contains(&call.number)
}

fn asks_for(call: &Syscall, operation: i32) -> bool {
    call.number == libc::SYS_flock && call.int(1) & operation != 0
}

/// A copy of a descriptor of this process: the same open file, as in a forked child.
fn copy_of(pid: i32, fd: i32) -> fs::File {
    let call = |number, first: i32, second: i32| unsafe { libc::syscall(number, first, second, 0) } as i32;
    let pidfd = call(libc::SYS_pidfd_open, pid, 0);
    let copy = call(libc::SYS_pidfd_getfd, pidfd, fd);
    assert!(copy != -1, "pidfd_getfd: {}", std::io::Error::last_os_error());
    unsafe { libc::close(pidfd) };
    unsafe { fs::File::from_raw_fd(copy) }
}

/// Whether this file is unlocked, so that another open file can lock it. It may have no name any more.
fn has_no_lock(file: &fs::File) -> bool {
    let another = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    unsafe { libc::flock(another.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

fn flock(file: &impl AsRawFd, operation: i32) {
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) }, 0);
}

fn unlock(lock: &PidLock) {
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_UN) }, 0);
}

/// A lock that was released, so that another process could take it, and that children share; and another open file.
fn let_go_and_another(path: &str, content: &str) -> (PidLock, fs::File) {
    let lock = PidLock::options().remove_on_release(false).acquire(path).unwrap();
    unlock(&lock);
    fs::write(path, content).unwrap();
    (lock, fs::File::options().read(true).write(true).open(path).unwrap())
}

type TakeOver = fn(&PidLock, &str) -> Result<(), Error>;

/// How a child takes over the lock that it shares: `restamp`, and `adopt` of a copy.
const TAKE_OVER: [TakeOver; 2] = [
    |lock, _| lock.restamp(),
    |lock, path| {
        let copy = unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
        PidLock::adopt(unsafe { OwnedFd::from_raw_fd(copy) }, path).map(std::mem::forget)
    },
];

#[test]
fn a_refused_restamp_or_adoption_asks_its_open_file_for_no_shared_lock_and_unlocks_nothing() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    let me = format!("{}\n", std::process::id());
    for take_over in TAKE_OVER {
        // A named holder; one that is just starting; the same after a death; a prober or scanner.
        for (content, kind) in
            [(&*me, libc::LOCK_EX), ("", libc::LOCK_EX), ("2147483647\n", libc::LOCK_EX), (&*me, libc::LOCK_SH)]
        {
            let (lock, another) = let_go_and_another(path, content);
            flock(&another, kind);
            let refused = || {
                mark(BEGIN);
                assert!(matches!(take_over(&lock, path), Err(Error::AlreadyLocked { .. })));
            };
            // The first call uses the shared open file. A new one may use any call.
            let mut asked: Vec<(i32, i32)> = vec![];
            let traced = follow(refused, |_, stop| match stop {
                Stop::Entry(call) if call.number == libc::SYS_flock => asked.push((call.int(0), call.int(1))),
                _ => {}
            });
            if !traced {
                return;
            }
            let shared = asked.first().unwrap().0;
            let only_tries =
                |(fd, operation): &(i32, i32)| *fd != shared || *operation == libc::LOCK_EX | libc::LOCK_NB;
            assert!(asked.iter().all(only_tries), "{content:?}, {kind}: {asked:?}");
            assert_eq!(fs::read_to_string(path).unwrap(), content);
            lock.disown();
        }
    }
}

/// Another holder caused a refusal, then released, and a sibling has taken over.
#[test]
fn a_restamp_or_adoption_that_was_refused_never_undoes_the_lock_of_a_sibling() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    for take_over in TAKE_OVER {
        let (lock, another) = let_go_and_another(path, "");
        flock(&another, libc::LOCK_EX);
        let late = || {
            mark(BEGIN);
            let _up_to_the_order = take_over(&lock, path);
        };
        let (mut asked, mut taken) = (false, false);
        let traced = follow(late, |_, stop| match stop {
            Stop::Exit(_) if taken => assert!(is_locked(path), "the sibling has lost its lock"),
            Stop::Exit(result) if asked => {
                assert_eq!(result, -i64::from(libc::EWOULDBLOCK));
                flock(&another, libc::LOCK_UN);
                lock.restamp().unwrap();
                taken = true;
            }
            Stop::Entry(call) => asked |= call.number == libc::SYS_flock,
            _ => {}
        });
        if !traced {
            return;
        }
        assert!(taken && is_locked(path));
        assert_eq!(lock.is_current(), Ok(true));
        lock.disown();
    }
}

/// A prober or scanner has a shared lock for an instant, and nobody holds the name.
#[test]
fn a_restamp_or_adoption_is_not_refused_because_of_a_shared_lock_that_lasts_for_an_instant() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    let me = format!("{}\n", std::process::id());
    for take_over in TAKE_OVER {
        for content in [&*me, "", "2147483647\n"] {
            let (lock, scanner) = let_go_and_another(path, content);
            flock(&scanner, libc::LOCK_SH);
            let late = || {
                mark(BEGIN);
                assert_eq!(take_over(&lock, path), Ok(()));
            };
            let mut asked = false;
            let traced = follow(late, |_, stop| match stop {
                Stop::Exit(_) if asked => flock(&scanner, libc::LOCK_UN),
                Stop::Entry(call) => asked |= call.number == libc::SYS_flock,
                _ => {}
            });
            if !traced {
                return;
            }
            assert!(is_locked(path), "{content:?}");
            lock.disown();
        }
    }
}

/// The call that fails, and whether it fails each time.
type Fault = (&'static [i64], i32, bool);

const FAULTS: [Fault; 4] = [
    (&[libc::SYS_fstat, libc::SYS_newfstatat], libc::ENOMEM, false),
    (&[libc::SYS_fstat, libc::SYS_newfstatat], libc::ENOMEM, true),
    (&[libc::SYS_pwrite64], libc::ENOSPC, false),
    (&[libc::SYS_fsync], libc::EIO, false),
];

/// A child between fork and exec has a copy of the descriptor, which must not keep the lock of an acquire that failed.
#[test]
fn a_failed_acquire_leaves_no_lock_in_a_copy_of_its_descriptor() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    for (calls, errno, each_time) in FAULTS {
        for made in [true, false] {
            let _ = fs::remove_file(path);
            if !made {
                fs::write(path, "2147483647\n").unwrap();
            }
            let failing = || {
                mark(BEGIN);
                let failed = PidLock::acquire(path).map(drop).unwrap_err();
                assert_eq!(failed.raw_os_error(), Some(errno));
            };
            let (mut asked, mut copy, mut failed) = (None, None, false);
            let traced = follow(failing, |traced, stop| match stop {
                Stop::Entry(call) if copy.is_some() && is(&call, calls) && (each_time || !failed) => {
                    traced.replace(-i64::from(errno));
                    failed = true;
                }
                Stop::Entry(call) => asked = asks_for(&call, libc::LOCK_EX).then(|| call.int(0)),
                Stop::Exit(0) => {
                    if let Some(fd) = asked.take() {
                        copy = Some(copy_of(traced.pid, fd));
                    }
                }
                _ => {}
            });
            if !traced {
                return;
            }
            assert!(failed);
            assert!(has_no_lock(&copy.unwrap()), "made {made}, {calls:?} fails, each time: {each_time}");
        }
    }
}

/// The kernel refused us the lock on our new file. Meanwhile another process locked and stamped it, and died.
#[test]
fn a_failed_acquire_does_not_remove_what_another_has_stamped() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    let failing = || {
        mark(BEGIN);
        let failed = Error::Sys { call: Call::Flock, errno: Errno::NoLock };
        assert_eq!(PidLock::acquire(path).map(drop), Err(failed));
    };
    let mut stamped = false;
    let traced = follow(failing, |traced, stop| match stop {
        Stop::Entry(call) if !stamped && asks_for(&call, libc::LOCK_EX) => {
            assert_eq!(fs::read_to_string(path).unwrap(), "");
            fs::write(path, "4194305\n").unwrap();
            stamped = true;
            traced.replace(-i64::from(libc::ENOLCK));
        }
        _ => {}
    });
    if traced {
        assert!(stamped);
        assert_eq!(fs::read_to_string(path).unwrap(), "4194305\n");
        assert!(!is_locked(path));
    }
}

/// The waiter is like flock(1): it opens the path, sleeps until it has the lock, and does not check the path again.
#[test]
fn a_waiter_for_a_file_that_is_to_stay_locks_the_file_at_the_path_when_its_stamp_fails() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    for made in [true, false] {
        let _ = fs::remove_file(path);
        if !made {
            fs::write(path, "").unwrap();
        }
        let failing = || {
            mark(BEGIN);
            let failed = Error::Sys { call: Call::Pwrite, errno: Errno::StorageFull };
            assert_eq!(PidLock::options().remove_on_release(false).acquire(path).map(drop), Err(failed));
        };
        let locked = Pipe::new();
        let mut waiting = None;
        let traced = follow(failing, |traced, stop| match stop {
            Stop::Entry(call) if call.number == libc::SYS_pwrite64 => {
                let child = fork(|| {
                    let file = fs::File::options().read(true).write(true).open(path).unwrap();
                    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
                    let named = fs::metadata(path).map_or(0, |of| of.ino());
                    locked.send((named == file.metadata().unwrap().ino()).into());
                    0
                });
                until_asleep(child.pid);
                waiting = Some(child);
                traced.replace(-i64::from(libc::ENOSPC));
            }
            _ => {}
        });
        if !traced {
            return;
        }
        assert_eq!(locked.receive(), 1, "made {made}: it has locked a file without a name");
        assert_eq!(waiting.unwrap().wait(), End::Exit(0));
        assert_eq!(fs::read_to_string(path).unwrap(), "");
    }
}

/// Between the creation and the lock another program may have opened the file to wait for it, as flock(1) does.
#[test]
fn a_failed_lock_leaves_a_file_that_is_to_stay_and_removes_any_other() {
    let scratch = Scratch::in_memory();
    for stays in [true, false] {
        let path = scratch.path(&format!("stays-{stays}"));
        let failing = || {
            mark(BEGIN);
            let failed = Error::Sys { call: Call::Flock, errno: Errno::NoLock };
            assert_eq!(PidLock::options().remove_on_release(!stays).acquire(path).map(drop), Err(failed));
        };
        let mut failed = false;
        let traced = follow(failing, |traced, stop| match stop {
            Stop::Entry(call) if !failed && asks_for(&call, libc::LOCK_EX) => {
                traced.replace(-i64::from(libc::ENOLCK));
                failed = true;
            }
            _ => {}
        });
        if traced {
            assert!(failed);
            assert_eq!(fs::read(path).ok(), stays.then(Vec::new));
        }
    }
}
