//! After any death of its holder the name is free at once.

mod support;

use pidflock::{Pid, PidLock, State, Wait, probe, wait_released};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};
use support::*;

/// Takes the name over from a dead holder with one try and no wait.
fn take_over(path: &str) {
    let lock = PidLock::acquire(path).unwrap();
    let me = std::process::id();
    assert_eq!(lock.pid().as_u32(), me);
    assert_eq!(fs::read_to_string(path).unwrap(), format!("{me}\n"));
    assert_eq!(probe(path), Ok(State::Held { holder: Some(lock.pid()) }));
    lock.release().unwrap();
}

#[test]
fn the_name_of_a_killed_holder_is_free_at_once() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    for _ in 0..20 {
        let ready = Pipe::new();
        let holder = fork(|| {
            let _lock = PidLock::acquire(path).unwrap();
            ready.send(0);
            loop {
                unsafe { libc::pause() };
            }
        });
        ready.receive();
        let pid = Pid::new(holder.pid).unwrap();
        assert_eq!(probe(path), Ok(State::Held { holder: Some(pid) }));
        holder.kill_and_wait();
        assert_eq!(probe(path), Ok(State::Free { stale: Some(pid) }));
        take_over(path);
    }
}

#[test]
fn a_holder_that_ends_without_a_drop_leaves_a_stale_file() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let exit = || std::mem::forget(PidLock::acquire(path).unwrap()); // and then `_exit`
    let abort = || {
        let _lock = PidLock::acquire(path).unwrap();
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
        unsafe { libc::abort() }
    };
    let table: [(&dyn Fn(), End); 2] = [(&exit, End::Exit(0)), (&abort, End::Signal(libc::SIGABRT))];
    for (work, end) in table {
        let holder = fork(|| {
            work();
            0
        });
        let pid = Pid::new(holder.pid);
        assert_eq!(holder.wait(), end);
        assert_eq!(probe(path), Ok(State::Free { stale: pid }));
        take_over(path);
    }
}

#[test]
fn a_holder_that_unwinds_releases() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let holder = fork(|| {
        let _lock = PidLock::acquire(path).unwrap();
        std::panic::resume_unwind(Box::new(())) // a panic without the message
    });
    assert_eq!(holder.wait(), End::Exit(PANICKED));
    assert_eq!(probe(path), Ok(State::Absent));
    take_over(path);
}

/// A holder that becomes another program has released the name, although the process lives.
#[test]
fn a_lock_does_not_survive_exec() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let ready = Pipe::new();
    let holder = fork(|| {
        let _lock = PidLock::acquire(path).unwrap();
        ready.send(0);
        let error = Command::new("sleep").arg("1000").exec();
        panic!("exec: {error}");
    });
    ready.receive();
    assert_eq!(wait_released(path, Wait::For(Duration::from_secs(10))), Ok(()));
    assert_eq!(probe(path), Ok(State::Free { stale: Pid::new(holder.pid) }));
    take_over(path);
    holder.kill(0); // it is alive
}

#[test]
fn a_program_that_the_holder_started_does_not_keep_the_lock() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let lock = PidLock::acquire(path).unwrap();
    let pid = lock.pid();
    // It ends when its input ends.
    let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    lock.disown(); // closes, as death does, and does not unlock
    // The kernel returns from the fork a moment before it closes the descriptors of the program.
    assert_eq!(wait_released(path, Wait::For(Duration::from_secs(10))), Ok(()));
    assert_eq!(probe(path), Ok(State::Free { stale: Some(pid) }));
    take_over(path);
    assert_eq!(program.try_wait().unwrap(), None);
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
}

/// The opposite: a copy that `fork` made keeps the lock until it is closed.
#[test]
fn a_forked_child_that_lives_on_keeps_the_lock_of_a_dead_parent() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let (ready, stop) = (Pipe::new(), Pipe::new());
    let parent = fork(|| {
        let lock = PidLock::acquire(path).unwrap();
        let child = fork(|| {
            ready.send(0);
            stop.receive()
        });
        ready.receive();
        std::mem::forget((lock, child));
        0
    });
    assert_eq!(parent.wait(), End::Exit(0));
    // The file names a dead process, so no holder is named.
    assert_eq!(probe(path), Ok(State::Held { holder: None }));
    stop.send(0);
    assert_eq!(wait_released(path, Wait::For(Duration::from_secs(10))), Ok(()));
    take_over(path);
}
