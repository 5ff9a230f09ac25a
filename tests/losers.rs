//! A process that does not get the lock changes nothing, and learns which process has it, if the file names it.

mod support;

use pidflock::{Error, Pid, PidLock, State, Wait, probe};
use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    time::{Duration, Instant},
};
use support::*;

/// A process that holds the name until it is killed.
fn holder(path: &str) -> Child {
    let ready = Pipe::new();
    let child = fork(|| {
        let _lock = PidLock::acquire(path).unwrap();
        ready.send(0);
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.receive();
    child
}

/// Locks the file in another way, until the result is dropped.
fn lock_file(path: &str, kind: i32) -> fs::File {
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) }, 0);
    file
}

/// The state of the holder's file, its directory, and our descriptors.
fn snapshot(scratch: &Scratch, path: &str) -> impl PartialEq + std::fmt::Debug {
    let of = |path: &str| {
        let of = fs::symlink_metadata(path).unwrap();
        (of.dev(), of.ino(), of.mode(), of.nlink(), of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec())
    };
    let names: Vec<_> = fs::read_dir(&scratch.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    (fs::read(path).unwrap(), of(path), of(scratch.path("")), names, descriptors())
}

/// A dead process that was not waited for.
fn zombie() -> Child {
    let child = fork(|| 0);
    let mut info = unsafe { std::mem::zeroed() };
    let id = libc::id_t::try_from(child.pid).unwrap();
    assert_eq!(unsafe { libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT) }, 0);
    child
}

fn refused(path: &str) -> Option<Option<Pid>> {
    match PidLock::acquire(path) {
        Err(Error::AlreadyLocked { holder }) => Some(holder),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_loser_changes_not_a_byte_and_learns_the_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let holder = holder(path);
    let before = snapshot(&scratch, path);
    for _ in 0..20 {
        assert_eq!(refused(path), Some(Pid::new(holder.pid)));
    }
    let others = PidLock::options().mode(0o600).remove_on_release(false).sync(false);
    assert_eq!(others.acquire(path).unwrap_err(), Error::AlreadyLocked { holder: Pid::new(holder.pid) });
    assert_eq!(snapshot(&scratch, path), before);
    assert_eq!(probe(path), Ok(State::Held { holder: Pid::new(holder.pid) }));
    assert!(is_locked(path));
}

#[test]
fn a_loser_in_the_same_process_learns_the_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let lock = PidLock::acquire(path).unwrap();
    let before = snapshot(&scratch, path);
    for _ in 0..20 {
        assert_eq!(refused(path), Some(Some(lock.pid())));
    }
    assert_eq!(snapshot(&scratch, path), before);
    assert_eq!(lock.is_current(), Ok(true));
    lock.release().unwrap();
    drop(PidLock::acquire(path).unwrap());
}

#[test]
fn a_holder_that_the_file_does_not_name_is_not_named() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let dead = fork(|| 0);
    let dead_pid = dead.pid;
    dead.wait();
    let zombie = zombie();
    let contents = [
        String::new(),
        format!("{dead_pid}\n"),
        format!("{}\n", zombie.pid),
        "rubbish\n".to_owned(),
        "-1\n".to_owned(),
        "2147483647\n".to_owned(),
    ];
    for content in contents {
        fs::write(path, &content).unwrap();
        let _holder = lock_file(path, libc::LOCK_EX);
        let before = snapshot(&scratch, path);
        assert_eq!(refused(path), Some(None), "{content:?}");
        assert_eq!(snapshot(&scratch, path), before, "{content:?}");
        // A probe also asks the kernel.
        let holder = Pid::new(std::process::id().try_into().unwrap());
        assert_eq!(probe(path), Ok(State::Held { holder }), "{content:?}");
    }
}

/// A file-system scanner, for example. The claim is stale then, even if a process with that PID lives.
#[test]
fn a_shared_lock_keeps_a_starter_out_only_while_it_lasts() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    for content in [String::new(), format!("{}\n", std::process::id()), "1\n".to_owned()] {
        fs::write(path, &content).unwrap();
        let scanner = lock_file(path, libc::LOCK_SH);
        let before = snapshot(&scratch, path);
        assert_eq!(refused(path), Some(None), "{content:?}");
        assert_eq!(snapshot(&scratch, path), before, "{content:?}");
        assert_eq!(probe(path), Ok(State::Free { stale: Pid::parse(content.as_bytes()) }));
        drop(scanner);
        PidLock::acquire(path).unwrap().release().unwrap();
    }
}

#[test]
fn a_file_that_a_scanner_made_stays_when_a_starter_fails() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let scanner = lock_file(path, libc::LOCK_SH);
    let inode = scanner.metadata().unwrap().ino();
    assert_eq!(refused(path), Some(None));
    assert_eq!(fs::symlink_metadata(path).unwrap().ino(), inode);
    drop(scanner);
    let _lock = PidLock::acquire(path).unwrap();
    assert_eq!(fs::symlink_metadata(path).unwrap().ino(), inode);
}

/// Four probers without pause. The full form, as ci/prove runs it, has 10,000 starts.
#[test]
fn a_starter_sees_through_probers() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("a.pid");
    let stop = Pipe::new();
    let probers = [(); 4].map(|()| {
        fork(|| {
            while stop.receive_within(0).is_none() {
                (0..100).for_each(|_| assert!(probe(path).is_ok()));
            }
            0
        })
    });
    let starts = if std::env::var("PIDFLOCK_PROOF").is_ok_and(|proof| proof == "full") { 10_000 } else { 500 };
    for start in 0..starts {
        // Every second time the file stays, so that there is also a free file to probe between two holders.
        let lock = PidLock::options().sync(false).remove_on_release(start % 2 == 0).acquire(path);
        lock.unwrap_or_else(|error| panic!("start {start}: {error}")).release().unwrap();
    }
    probers.iter().for_each(|_| stop.send(0));
    for prober in probers {
        assert_eq!(prober.wait(), End::Exit(0));
    }
    println!("starts: {starts} beside four probers, and none failed");
}

/// Returns once this process sleeps in flock(2) on this file.
fn wait_until_asleep(pid: i32, file: &fs::File) {
    let inode = format!(":{}", file.metadata().unwrap().ino());
    let start = Instant::now();
    let sleeps = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "->").skip(4); // -> FLOCK ADVISORY WRITE
        words.next() == Some(&pid.to_string()) && words.next().is_some_and(|id| id.ends_with(&inode))
    };
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(sleeps) {
        assert!(start.elapsed() < Duration::from_secs(5), "it does not sleep");
        std::thread::yield_now();
    }
}

/// Each time it wakes, another file has replaced this one, and the next holder has locked that one.
#[test]
fn waiting_forever_survives_many_lost_races() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let start = Pipe::new();
    let waiter = fork(|| {
        start.receive(); // forked before there is a lock, so it has no copy of it
        PidLock::options().wait(Wait::Forever).acquire(path).map_or(1, |_| 0)
    });
    let mut held = lock_file(path, libc::LOCK_EX);
    start.send(0);
    for _ in 0..250 {
        wait_until_asleep(waiter.pid, &held);
        let next = lock_file(scratch.path("next"), libc::LOCK_EX);
        fs::rename(scratch.path("next"), path).unwrap();
        held = next; // and releases the previous one
    }
    drop(held);
    assert_eq!(waiter.wait(), End::Exit(0));
}

#[test]
fn a_state_says_what_status_prints() {
    let holder = Pid::new(4242);
    for (state, text) in [
        (State::Absent, "no such file"),
        (State::Free { stale: None }, "not locked"),
        (State::Free { stale: holder }, "not locked; left behind by process 4242"),
        (State::Held { holder: None }, "locked by an unknown process"),
        (State::Held { holder }, "locked by process 4242"),
    ] {
        assert_eq!(state.to_string(), text);
        assert_eq!(state.message().to_string(), text);
    }
}
