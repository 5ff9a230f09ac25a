//! Across fork the lock passes from a launcher to its daemon without a gap, and a copy never releases another's lock.

mod support;

use pidflock::{AsRawFd, Error, IntoRawFd, Pid, PidLock, State, probe, read_pid_from};
use std::{
    fs, io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};
use support::*;

fn pid(number: i32) -> Option<Pid> {
    Some(Pid::new(number).unwrap())
}

/// A child that tries to acquire in a loop. It fails if it ever succeeds, or gets any other error.
struct Rival {
    child: Child,
    stop: Pipe,
}

impl Rival {
    fn new(path: &str) -> Rival {
        let (ready, stop) = (Pipe::new(), Pipe::new());
        let child = fork(|| {
            let mut tries = 0;
            while stop.receive_within(0).is_none() {
                match PidLock::acquire(path) {
                    Err(Error::AlreadyLocked { .. }) => {}
                    other => panic!("{other:?}"),
                }
                tries += 1;
                if tries == 1 {
                    ready.send(0);
                }
            }
            0
        });
        ready.receive();
        Rival { child, stop }
    }

    fn stop(self) {
        self.stop.send(0);
        assert_eq!(self.child.wait(), End::Exit(0));
    }
}

/// The pipes between a launcher, its daemon and the test.
struct Pipes {
    locked: Pipe,
    launch: Pipe,
    forked: Pipe,
    looked: Pipe,
    take_over: Pipe,
    daemon: Pipe,
    stop: Pipe,
    stopped: Pipe,
}

impl Pipes {
    fn new() -> Pipes {
        let [locked, launch, forked, looked, take_over, daemon, stop, stopped] = std::array::from_fn(|_| Pipe::new());
        Pipes { locked, launch, forked, looked, take_over, daemon, stop, stopped }
    }
}

/// Forks a child that outlives the caller.
fn detach(work: impl FnOnce() -> i32) {
    std::mem::forget(fork(work));
}

/// The launcher after its acquire: two forks, and the grandchild is the daemon.
fn daemonize(lock: &PidLock, pipes: &Pipes) {
    detach(|| {
        assert_ne!(unsafe { libc::setsid() }, -1);
        detach(|| {
            pipes.take_over.receive();
            lock.restamp().unwrap();
            assert_eq!(lock.pid(), pid(std::process::id().try_into().unwrap()).unwrap());
            pipes.daemon.send(lock.pid().get());
            pipes.stop.receive();
            // Destructured here, because `_exit` drops nothing.
            drop(unsafe { std::ptr::read(lock) });
            pipes.stopped.send(0);
            0
        });
        0
    });
    pipes.forked.send(0);
}

/// One launch, with a launcher that ends in one of three ways. `launcher` runs in it once the daemon is forked.
fn launch(launcher: impl FnOnce(PidLock, &Pipes), end: impl FnOnce(Child, &Pipes)) {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let pipes = Pipes::new();
    let child = fork(|| {
        let lock = PidLock::acquire(path).unwrap();
        pipes.locked.send(0);
        pipes.launch.receive();
        daemonize(&lock, &pipes);
        pipes.looked.receive();
        launcher(lock, &pipes);
        0
    });
    pipes.locked.receive();
    let rival = Rival::new(path);
    pipes.launch.send(0);
    pipes.forked.receive();
    assert_eq!(read_pid_from(path), Ok(pid(child.pid)), "the daemon has yet to take over");
    pipes.looked.send(0);

    end(child, &pipes);
    let daemon = pipes.daemon.receive();
    assert_eq!(read_pid_from(path), Ok(pid(daemon)));
    assert_eq!(PidLock::acquire(path).err(), Some(Error::AlreadyLocked { holder: pid(daemon) }));
    rival.stop();

    pipes.stop.send(0);
    pipes.stopped.receive();
    assert_eq!(probe(path), Ok(State::Absent));
    drop(PidLock::acquire(path).unwrap());
}

#[test]
fn a_daemon_takes_over_from_a_launcher_that_ended_before() {
    launch(
        |lock, _| lock.disown(),
        |child, pipes| {
            assert_eq!(child.wait(), End::Exit(0));
            pipes.take_over.send(0);
        },
    );
}

#[test]
fn a_launcher_that_waits_for_its_daemon_returns_with_the_daemon_in_the_file() {
    launch(
        |lock, pipes| {
            pipes.take_over.send(0);
            let daemon = pipes.daemon.receive();
            assert_eq!(pidflock::read_pid(&lock), Ok(pid(daemon)));
            lock.disown();
            pipes.daemon.send(daemon);
        },
        |child, _| assert_eq!(child.wait(), End::Exit(0)),
    );
}

#[test]
fn a_launcher_that_forgets_to_disown_does_no_harm_once_its_daemon_has_taken_over() {
    launch(
        |lock, pipes| {
            pipes.take_over.send(0);
            let daemon = pipes.daemon.receive();
            lock.release().unwrap();
            pipes.daemon.send(daemon);
        },
        |child, _| assert_eq!(child.wait(), End::Exit(0)),
    );
}

#[test]
fn a_daemon_takes_over_from_a_launcher_that_was_killed() {
    launch(
        |_lock, pipes| {
            pipes.locked.receive(); // never comes
        },
        |child, pipes| {
            child.kill_and_wait();
            pipes.take_over.send(0);
        },
    );
}

#[test]
fn a_copy_in_a_child_that_has_not_taken_over_releases_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = PidLock::acquire(path).unwrap();
    for let_go in [drop, |lock| PidLock::release(lock).unwrap(), PidLock::disown] {
        let child = fork(|| {
            let copy = unsafe { std::ptr::read(&raw const lock) };
            assert_eq!(copy.pid().get(), unsafe { libc::getppid() });
            let_go(copy);
            0
        });
        assert_eq!(child.wait(), End::Exit(0));
        assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
        assert!(is_locked(path));
    }
}

#[test]
fn a_child_cannot_take_over_a_file_that_has_left_the_path() {
    let scratch = Scratch::new();
    let (path, moved, link) = (scratch.path("x.pid"), scratch.path("moved"), scratch.path("link"));
    let lock = PidLock::acquire(path).unwrap();
    let restamp_in_child = |expected| {
        let child = fork(|| {
            assert_eq!(lock.restamp(), Err(expected));
            assert_eq!(lock.pid().get(), unsafe { libc::getppid() });
            0
        });
        assert_eq!(child.wait(), End::Exit(0));
    };

    fs::rename(path, moved).unwrap();
    restamp_in_child(Error::Replaced);
    fs::write(path, "another's").unwrap();
    restamp_in_child(Error::Replaced);
    assert_eq!(lock.restamp(), Err(Error::Replaced));
    assert_eq!(fs::read(path).unwrap(), b"another's");
    assert_eq!(read_pid_from(moved), Ok(Some(lock.pid())));

    fs::rename(moved, path).unwrap();
    assert_eq!(lock.restamp(), Ok(()));
    fs::hard_link(path, link).unwrap();
    restamp_in_child(Error::NotAPidFile);
    assert_eq!(read_pid_from(link), Ok(Some(lock.pid())));
}

#[test]
fn a_child_cannot_take_over_a_name_that_its_parent_released_and_another_acquired() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = PidLock::options().remove_on_release(false).acquire(path).unwrap();
    let go = Pipe::new();
    let child = fork(|| {
        go.receive();
        let holder = pid(unsafe { libc::getppid() });
        assert_eq!(lock.restamp(), Err(Error::AlreadyLocked { holder }));
        0
    });
    lock.release().unwrap();
    let successor = PidLock::acquire(path).unwrap();
    go.send(0);
    assert_eq!(child.wait(), End::Exit(0));
    assert_eq!(read_pid_from(path), Ok(Some(successor.pid())));
}

/// `cat`, which lives until its standard input closes, started with `prepare` between fork and exec.
fn cat(mut prepare: impl FnMut() -> Result<(), Error> + Send + Sync + 'static) -> std::process::Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    unsafe { command.pre_exec(move || prepare().map_err(io::Error::other)) };
    command.spawn().unwrap()
}

#[test]
fn a_supervisor_passes_its_name_to_a_program_between_fork_and_exec() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = PidLock::acquire(path).unwrap();
    let rival = Rival::new(path);
    // The lock moves into the closure, so the supervisor's copy is dropped at the end.
    let mut lock = Some(lock);
    let mut program = cat(move || {
        let Some(lock) = lock.take() else { return Ok(()) };
        lock.restamp()?;
        let _open_in_the_program = lock.hand_over()?.into_raw_fd();
        Ok(())
    });
    let holder = pid(program.id().try_into().unwrap());
    assert_eq!(probe(path), Ok(State::Held { holder }));
    assert_eq!(pidflock::signal(path, pidflock::Signal::CHECK).ok(), holder);
    rival.stop();

    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(probe(path), Ok(State::Free { stale: holder }));
    drop(PidLock::acquire(path).unwrap());
}

#[test]
fn a_lock_that_is_not_handed_over_stays_with_the_parent_when_a_child_takes_over_and_execs() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = Arc::new(PidLock::acquire(path).unwrap());
    let copy = Arc::clone(&lock);
    let mut program = cat(move || copy.restamp());
    assert_eq!(read_pid_from(path), Ok(pid(program.id().try_into().unwrap())));
    assert!(is_locked(path));
    // The file names a process that closed its copy. A signal reaches this process, which has the lock.
    assert_eq!(pidflock::signal(path, pidflock::Signal::CHECK).ok(), Pid::new(std::process::id().try_into().unwrap()));

    lock.restamp().unwrap();
    assert_eq!(probe(path), Ok(State::Held { holder: Some(lock.pid()) }));
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
    drop(lock);
    assert_eq!(probe(path), Ok(State::Absent));
}

#[test]
fn a_lock_is_shared_and_restamped_by_threads() {
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = PidLock::acquire(path).unwrap();
    send_and_sync(&lock);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    lock.restamp().unwrap();
                    assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
                    assert_eq!(lock.is_current(), Ok(true));
                }
            });
        }
    });
    assert!(lock.as_raw_fd() > 2);
    lock.release().unwrap();
    assert!(!fs::exists(path).unwrap());
}
