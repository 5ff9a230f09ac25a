//! Two processes can have the same PID, in two containers or one after the other. A PID alone proves nothing.
#![cfg(target_os = "linux")]

mod support;

use pidflock::{Call, Errno, Error, Holder, Pid, PidLock, Signal, Wait, read_pid_from, signal};
use std::{fs, os::unix::fs::MetadataExt, time::Duration};
use support::*;

const LONG: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(50);

/// Waits for children that make their own assertions. One of them may report that it lacks rights.
#[track_caller]
fn assert_well(children: impl IntoIterator<Item = Child>) {
    for child in children {
        match child.wait() {
            End::Exit(NOT_ALLOWED) => skip("this root may not make a PID namespace"),
            end => assert_eq!(end, End::Exit(0)),
        }
    }
}

/// In a child: becomes nobody, for good.
fn drop_privileges() {
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    assert_eq!(unsafe { libc::setgid(65534) }, 0);
    assert_eq!(unsafe { libc::setuid(65534) }, 0);
}

type Way = (&'static str, fn(PidLock));

const LET_GO: [Way; 2] = [("release", |lock| lock.release().unwrap()), ("drop", drop)];

/// A child takes over from PID 1 of one container and releases. PID 1 of another container acquires the file, which was kept.
/// Then the first PID 1 releases, too: the claim is its PID, but the lock is another's.
#[test]
fn a_late_release_in_one_container_leaves_the_holder_in_another_alone() {
    if !is_root() {
        return skip("only root can make a PID namespace");
    }
    let scratch = Scratch::new();
    for (way, let_go) in LET_GO {
        for keep in [false, true] {
            let directory = scratch.path(&format!("{way}-{keep}"));
            let path = scratch.path(&format!("{way}-{keep}/x.pid"));
            fs::create_dir(directory).unwrap();
            let (free, late, held, look) = (Pipe::new(), Pipe::new(), Pipe::new(), Pipe::new());
            let parent = container(|| {
                let mut lock = Some(PidLock::options().remove_on_release(!keep).acquire(path).unwrap());
                let child = fork(|| {
                    let lock = lock.take().unwrap();
                    lock.restamp().unwrap();
                    drop_privileges();
                    let refused = Error::Sys { call: Call::Unlinkat, errno: Errno::PermissionDenied };
                    assert_eq!(lock.release(), if keep { Ok(()) } else { Err(refused) });
                    0
                });
                assert_eq!(child.wait(), End::Exit(0));
                free.send(0);
                late.receive();
                let_go(lock.unwrap());
                free.send(0);
                0
            });
            if free.receive_within(10_000).is_none() {
                return assert_well([parent]);
            }
            assert_eq!(fs::read_to_string(path).unwrap(), "");
            let holder = container(|| {
                let lock = PidLock::acquire(path).unwrap();
                held.send(lock.pid().get());
                look.receive();
                held.send((lock.is_current() == Ok(true)).into());
                look.receive();
                0
            });
            assert_eq!(held.receive(), 1);
            late.send(0);
            free.receive();
            look.send(0);
            assert_eq!(held.receive(), 1, "{way}, keep {keep}: the holder's file was removed");
            assert_eq!(fs::read_to_string(path).unwrap(), "1\n", "{way}, keep {keep}");
            assert!(is_locked(path), "{way}, keep {keep}");
            look.send(0);
            assert_well([parent, holder]);
        }
    }
}

/// This is a limit, not a goal. The worker's child looks exactly like the dead holder: it has the stamped PID, and the open file
/// that has the lock. Asking for the lock does not help, because the two share it.
#[test]
fn a_workers_child_with_the_number_of_the_dead_holder_passes_for_the_holder() {
    if !is_root() {
        return skip("only root can make a PID namespace");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let apart = container(|| {
        let (number, go, done, end) = (Pipe::new(), Pipe::new(), Pipe::new(), Pipe::new());
        let holder = fork(|| {
            let lock = PidLock::acquire(path).unwrap();
            let worker = fork(|| {
                let dead = go.receive();
                let child = fork_as(dead, || {
                    drop(unsafe { std::ptr::read(&raw const lock) });
                    0
                });
                done.send((child.wait() == End::Exit(0)).into());
                end.receive();
                0
            });
            std::mem::forget(worker);
            number.send(lock.pid().get());
            end.receive();
            0
        });
        let dead = number.receive();
        assert_eq!(dead, holder.pid);
        holder.kill_and_wait();
        assert!(is_locked(path), "the worker keeps it");
        go.send(dead);
        assert_eq!(done.receive(), 1);
        assert!(!fs::exists(path).unwrap());
        0
    });
    assert_well([apart]);
}

/// Returns once a file that is changed now has a newer time than this one.
fn until_the_next_tick(scratch: &Scratch, path: &str) {
    let changed = |path: &str| fs::metadata(path).map(|of| (of.ctime(), of.ctime_nsec())).unwrap();
    let clock = scratch.path("clock");
    while {
        fs::write(clock, "").unwrap();
        changed(clock) <= changed(path)
    } {}
    fs::remove_file(clock).unwrap();
}

/// What happens after a holder that was found has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Another process has its PID, and acquires the kept file.
    Successor,
    /// Its child keeps the lock.
    Child,
    /// Its child keeps the lock, and a stranger has its PID.
    ChildAndStranger,
}

/// The results of a wait for the dead holder, with and without a time.
fn wait_after_death(after: After) -> Option<[Result<(), Error>; 2]> {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let told = Pipe::new();
    let apart = container(|| {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let first = fork(|| {
            let lock = PidLock::acquire(path).unwrap();
            if after != After::Successor {
                std::mem::forget(fork(|| end.receive()));
            }
            ready.send(lock.pid().get());
            end.receive()
        });
        let number = ready.receive();
        let found = Holder::find(path).unwrap();
        assert_eq!((found.pid().get(), first.pid), (number, number));
        until_the_next_tick(&scratch, path);
        first.kill_and_wait();
        let _second = (after != After::Child).then(|| {
            let child = fork_as(number, || {
                let _lock = (after == After::Successor).then(|| PidLock::acquire(path).unwrap());
                ready.send(0);
                end.receive()
            });
            ready.receive();
            child
        });
        assert_eq!(read_pid_from(path).unwrap().unwrap().get(), number);
        assert!(is_locked(path));
        let time = if after == After::Successor { LONG } else { SHORT };
        for wait in [Wait::Never, Wait::For(time)] {
            told.send(match found.wait(wait) {
                Ok(()) => 0,
                Err(Error::AlreadyLocked { .. }) => 1,
                Err(error) => panic!("{error}"),
            });
        }
        0
    });
    let said = |number| match number {
        0 => Ok(()),
        _ => Err(Error::AlreadyLocked { holder: None }),
    };
    let answers = [told.receive_within(10_000), told.receive_within(10_000)];
    assert_well([apart]);
    Some(answers.map(|number| number.map(said))).and_then(|[first, second]| Some([first?, second?]))
}

#[test]
fn a_wait_for_a_dead_holder_ends_although_a_successor_with_its_number_holds_the_file() {
    if !is_root() {
        return skip("only root can make a PID namespace");
    }
    if let Some(answers) = wait_after_death(After::Successor) {
        assert_eq!(answers, [Ok(()); 2]);
    }
}

#[test]
fn a_wait_for_a_dead_holder_lasts_while_its_child_keeps_the_lock_even_if_its_pid_is_reused() {
    if !is_root() {
        return skip("only root can make a PID namespace");
    }
    for after in [After::Child, After::ChildAndStranger] {
        if let Some(answers) = wait_after_death(after) {
            assert_eq!(answers, [Err(Error::AlreadyLocked { holder: None }); 2], "{after:?}");
        }
    }
}

/// The file has changed since the holder was found, and the holder is still the same.
#[test]
fn a_wait_for_a_living_holder_goes_on_when_it_stamps_again() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let (go, stamped) = (Pipe::new(), Pipe::new());
    let holder = fork(|| {
        let lock = PidLock::acquire(path).unwrap();
        for _ in 0..2 {
            stamped.send(0);
            go.receive();
            lock.restamp().unwrap();
        }
        0
    });
    stamped.receive();
    let found = Holder::find(path).unwrap();
    until_the_next_tick(&scratch, path);
    go.send(0);
    stamped.receive();
    let refused = Error::AlreadyLocked { holder: Some(found.pid()) };
    assert_eq!(found.wait(Wait::Never), Err(refused));
    assert_eq!(found.wait(Wait::For(SHORT)), Err(refused));
    assert_eq!(found.pid().get(), holder.pid);
}

/// Sets the time at which the file was stamped.
fn date(path: &str, seconds: i64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap())).unwrap();
}

/// Now, and the start of the machine, in seconds of the wall clock.
fn now_and_start() -> [i64; 2] {
    [libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME].map(|clock| {
        let mut time = unsafe { std::mem::zeroed::<libc::timespec>() };
        assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
        #[allow(clippy::useless_conversion, reason = "it has 32 bits on some targets")]
        i64::from(time.tv_sec)
    })
}

/// /proc/locks still names a process that left its lock to a child, and so names any process that gets its PID.
#[test]
fn a_stranger_with_the_number_of_a_dead_taker_is_not_signalled() {
    let scratch = Scratch::new();
    if !is_root() {
        return skip("only root can choose a number");
    }
    let [now, since_start] = now_and_start();
    if since_start < 60 {
        return skip("the machine has just started");
    }
    let path = scratch.path("x.pid");
    // In a process with one thread, because a chosen PID needs that.
    let asker = fork(|| {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let holder = fork(|| {
            let lock = PidLock::acquire(path).unwrap();
            let keeper = fork(|| {
                ready.send(0);
                i32::from(end.receive_within(60_000).is_none())
            });
            ready.receive();
            std::mem::forget((lock, keeper));
            0
        });
        let dead = holder.pid;
        assert_eq!(holder.wait(), End::Exit(0));
        assert!(is_locked(path), "the child keeps it");
        let stranger = try_fork_numbered(dead, || i32::from(end.receive_within(60_000).is_none())).unwrap();
        date(path, now - 40);
        assert_eq!(signal(path, Signal::KILL), Err(Error::AlreadyLocked { holder: None }));
        end.send(0);
        end.send(0);
        i32::from(stranger.wait() != End::Exit(0))
    });
    assert_eq!(asker.wait(), End::Exit(0));
}

/// If the kernel shows a lock at all, a process that has the file open without that lock does not hold it.
#[test]
fn a_process_that_only_has_the_file_of_a_dead_taker_open_is_not_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let (ready, end) = (Pipe::new(), Pipe::new());
    let holder = fork(|| {
        let lock = PidLock::acquire(path).unwrap();
        let keeper = fork(|| {
            ready.send(0);
            i32::from(end.receive_within(60_000).is_none())
        });
        ready.receive();
        std::mem::forget((lock, keeper));
        0
    });
    assert_eq!(holder.wait(), End::Exit(0));
    let reader = Target::new(0, || fs::File::open(path).unwrap());
    fs::write(path, format!("{}\n", reader.number())).unwrap();
    assert_eq!(signal(path, Signal::HUP), Err(Error::AlreadyLocked { holder: None }));
    assert_eq!(reader.received(), 0);
    end.send(0);
}

/// A machine without a battery starts in 1970, and a daemon may stamp before the clock is set.
#[test]
fn a_clock_that_was_set_since_the_stamp_does_not_keep_the_holder_from_its_signals() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let (ready, end) = (Pipe::new(), Pipe::new());
    let holder = fork(|| {
        let lock = PidLock::acquire(path).unwrap();
        let keeper = fork(|| i32::from(end.receive_within(60_000).is_none()));
        lock.disown();
        ready.send(0);
        end.receive_within(60_000);
        std::mem::forget(keeper);
        0
    });
    ready.receive();
    let pid = Pid::new(holder.pid).unwrap();
    assert_eq!(signal(path, Signal::CHECK), Ok(pid));
    date(path, 4242);
    assert_eq!(signal(path, Signal::CHECK), Ok(pid));
    end.send(0);
    end.send(0);
    assert_eq!(holder.wait(), End::Exit(0));
}
