//! Across exec the next program image keeps the lock without a gap, and takes over only what it can verify.

mod support;

use pidflock::{
    AsRawFd, Call, Errno, Error, FromRawFd, IntoRawFd, OwnedFd, Pid, PidLock, RawFd, State, probe, read_pid_from,
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};
use support::*;

/// How often the test program execs itself.
const GENERATIONS: u32 = 1000;

fn fd_flags(fd: RawFd) -> i32 {
    unsafe { libc::fcntl(fd, libc::F_GETFD) }
}

fn owned(fd: RawFd) -> OwnedFd {
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// An open file without a lock.
fn open(path: &str) -> RawFd {
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    std::os::fd::IntoRawFd::into_raw_fd(file)
}

fn flock(fd: RawFd, operation: i32) {
    assert_eq!(unsafe { libc::flock(fd, operation) }, 0);
}

#[test]
fn a_lock_that_is_handed_over_survives_exec_locked_and_named() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = PidLock::acquire(path).unwrap();
    assert_eq!(fd_flags(lock.as_raw_fd()), libc::FD_CLOEXEC);
    let (fd, pid) = (lock.as_raw_fd(), lock.pid());
    let handed = lock.hand_over().unwrap();
    assert_eq!(handed.as_raw_fd(), fd);
    assert!(fd > 2);
    assert_eq!(fd_flags(fd), 0);
    assert_eq!(PidLock::acquire(path).err(), Some(Error::AlreadyLocked { holder: Some(pid) }));

    let lock = PidLock::adopt(handed, path).unwrap();
    assert_eq!(lock.as_raw_fd(), fd);
    assert_eq!(fd_flags(fd), libc::FD_CLOEXEC);
    assert_eq!(lock.pid(), pid);
    assert_eq!(lock.is_current(), Ok(true));
    assert_eq!(PidLock::acquire(path).err(), Some(Error::AlreadyLocked { holder: Some(pid) }));
    lock.release().unwrap();
    assert_eq!(probe(path), Ok(State::Absent));
}

/// A lock does not carry its options: the adopter gives them again.
#[test]
fn a_lock_that_is_adopted_with_options_keeps_them() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let options = PidLock::options().remove_on_release(false);
    let lock = options.adopt(options.acquire(path).unwrap().hand_over().unwrap(), path).unwrap();
    lock.release().unwrap();
    assert_eq!(fs::read(path).unwrap(), b"", "removed, or not emptied");
    let lock = PidLock::adopt(options.acquire(path).unwrap().hand_over().unwrap(), path).unwrap();
    lock.release().unwrap();
    assert_eq!(probe(path), Ok(State::Absent), "the default is to remove");
    assert_eq!(options.adopt(owned(open(path)), scratch.path("other")).err(), Some(Error::Replaced));
}

#[test]
fn a_lock_that_is_handed_over_low_moves_above_the_standard_streams() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let child = fork(|| {
        unsafe { libc::close(0) };
        let handed = PidLock::acquire(path).unwrap().hand_over().unwrap();
        assert!(handed.as_raw_fd() > 2);
        // A careless program has moved it.
        assert_eq!(unsafe { libc::dup2(handed.as_raw_fd(), 0) }, 0);
        drop(handed);
        let lock = PidLock::adopt(owned(0), path).unwrap();
        assert!(lock.as_raw_fd() > 2);
        assert_eq!(fd_flags(0), -1);
        assert!(is_locked(path));
        lock.release().unwrap();
        0
    });
    assert_eq!(child.wait(), End::Exit(0));
}

/// Two children that try to acquire in a loop, from one message of the test to the next. They fail if they ever succeed, or
/// get any other error.
fn rivals(path: &str) -> [(Child, Pipe); 2] {
    std::array::from_fn(|_| {
        let go = Pipe::new();
        let child = fork(|| {
            go.receive();
            while go.receive_within(0).is_none() {
                match PidLock::acquire(path) {
                    Err(Error::AlreadyLocked { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
            0
        });
        (child, go)
    })
}

#[test]
fn a_program_that_becomes_itself_a_thousand_times_keeps_its_lock_and_its_pid() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let rivals = rivals(path); // forked before there is a lock, so they have no copy of it
    let handed = PidLock::acquire(path).unwrap().hand_over().unwrap();
    for (_, go) in &rivals {
        go.send(0);
    }
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "becomes_itself", "--ignored", "--nocapture", "--test-threads=1"]);
    program.env("PIDFLOCK_TEST_PATH", path).env("PIDFLOCK_TEST_FD", handed.as_raw_fd().to_string());
    program.env("PIDFLOCK_TEST_GENERATIONS", GENERATIONS.to_string());
    let mut program = program.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(handed);

    // Every generation prints its PID, and the last one ends when its standard input ends.
    let pid: i32 = program.id().try_into().unwrap();
    let mut generations = 0;
    for line in BufReader::new(program.stderr.take().unwrap()).lines().map(Result::unwrap) {
        assert_eq!(line, pid.to_string());
        assert_eq!(read_pid_from(path), Ok(Pid::new(pid)));
        generations += 1;
        if generations == GENERATIONS {
            assert_eq!(probe(path), Ok(State::Held { holder: Pid::new(pid) }));
            for (_, go) in &rivals {
                go.send(0);
            }
            for (child, _) in rivals {
                assert_eq!(child.wait(), End::Exit(0));
            }
            break;
        }
    }
    assert_eq!(generations, GENERATIONS);
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
    assert_eq!(probe(path), Ok(State::Absent));
}

#[test]
#[ignore = "one generation of the program that becomes itself; does nothing unless that test starts it"]
fn becomes_itself() {
    let Ok(path) = env::var("PIDFLOCK_TEST_PATH") else { return };
    let number = |name| env::var(name).unwrap().parse::<i32>().unwrap();
    let (fd, left) = (number("PIDFLOCK_TEST_FD"), number("PIDFLOCK_TEST_GENERATIONS"));
    let lock = PidLock::adopt(owned(fd), path.as_str()).unwrap();
    eprintln!("{}", lock.pid());
    if left == 1 {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        lock.release().unwrap();
        return;
    }
    let fd = lock.hand_over().unwrap().into_raw_fd();
    let mut next = Command::new(env::current_exe().unwrap());
    next.args(env::args_os().skip(1));
    next.env("PIDFLOCK_TEST_FD", fd.to_string()).env("PIDFLOCK_TEST_GENERATIONS", (left - 1).to_string());
    panic!("{}", next.exec());
}

#[test]
fn a_descriptor_that_is_not_the_file_at_the_path_is_refused_and_stays_open() {
    let scratch = Scratch::new();
    let [path, other, replaced, absent, nowhere] =
        ["x.pid", "other", "replaced", "absent", "no/such/directory"].map(|name| scratch.path(name));
    fs::write(path, "4242\n").unwrap();
    fs::write(other, "other").unwrap();
    let mut pipe = [0; 2];
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let directory = std::os::fd::IntoRawFd::into_raw_fd(fs::File::open(&scratch.directory).unwrap());
    let (other_fd, gone) = (open(other), open(replaced));
    flock(gone, libc::LOCK_EX);
    fs::remove_file(replaced).unwrap();
    fs::write(replaced, "successor").unwrap();

    let refused = [
        ("a pipe", pipe[0], path, Error::NotAPidFile),
        ("a directory", directory, path, Error::NotAPidFile),
        ("another file", other_fd, path, Error::Replaced),
        ("a file that was replaced", gone, replaced, Error::Replaced),
        ("a path to nothing", gone, absent, Error::Replaced),
        ("a path into nothing", gone, nowhere, Error::Sys { call: Call::Openat, errno: Errno::NotFound }),
        ("no path", gone, "", Error::InvalidPath),
        ("the path of a directory", directory, scratch.path("."), Error::InvalidPath),
    ];
    let before = descriptors();
    for (what, fd, path, error) in refused {
        assert_eq!(PidLock::adopt(owned(fd), path).err(), Some(error), "{what}");
        assert_eq!(fd_flags(fd), if fd == pipe[0] { 0 } else { libc::FD_CLOEXEC }, "{what}");
        assert_eq!(descriptors(), before, "{what}");
    }
    assert!(!fs::exists(absent).unwrap());
    assert_eq!(fs::read(path).unwrap(), b"4242\n");
    assert_eq!(fs::read(other).unwrap(), b"other");
    assert_eq!(fs::read(replaced).unwrap(), b"successor");
    assert!([path, other, replaced].iter().all(|path| !is_locked(path)));
    flock(gone, libc::LOCK_EX | libc::LOCK_NB); // it still has the lock
    drop([pipe[0], pipe[1], directory, other_fd, gone].map(owned));
}

#[test]
fn a_number_that_is_not_a_descriptor_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    fs::write(path, "4242\n").unwrap();
    let before = descriptors();
    let error = Error::Sys { call: Call::Fstat, errno: Errno::BadDescriptor };
    assert_eq!(PidLock::adopt(owned(999_999), path).err(), Some(error));
    assert_eq!(descriptors(), before);
    assert_eq!(fs::read(path).unwrap(), b"4242\n");
}

#[test]
fn the_right_file_is_closed_if_another_has_its_lock_or_it_has_another_name() {
    let scratch = Scratch::new();
    let (path, link) = (scratch.path("x.pid"), scratch.path("link"));
    let before = descriptors();

    let lock = PidLock::acquire(path).unwrap();
    let fd = open(path);
    assert_eq!(PidLock::adopt(owned(fd), path).err(), Some(Error::AlreadyLocked { holder: Some(lock.pid()) }));
    assert_eq!(fd_flags(fd), -1);
    assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
    assert!(is_locked(path));
    lock.release().unwrap();
    assert_eq!(descriptors(), before);

    fs::write(path, "4242\n").unwrap();
    fs::hard_link(path, link).unwrap();
    let fd = open(path);
    flock(fd, libc::LOCK_EX);
    assert_eq!(PidLock::adopt(owned(fd), path).err(), Some(Error::NotAPidFile));
    assert_eq!(descriptors(), before);
    assert!(!is_locked(path));
    assert_eq!((fs::read(path).unwrap(), fs::read(link).unwrap()), (b"4242\n".to_vec(), b"4242\n".to_vec()));
}

#[test]
fn the_right_file_is_locked_if_nobody_has_its_lock() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    fs::write(path, "4242\n").unwrap();
    let before = descriptors();
    let fd = open(path);
    let lock = PidLock::adopt(owned(fd), path).unwrap();
    assert_eq!(lock.as_raw_fd(), fd);
    assert_eq!(lock.pid().as_u32(), std::process::id());
    assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
    assert!(is_locked(path));
    lock.release().unwrap();
    assert_eq!(probe(path), Ok(State::Absent));
    assert_eq!(descriptors(), before);
}

#[test]
fn a_child_adopts_the_lock_of_its_parent_and_is_the_owner_from_then_on() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let handed = PidLock::acquire(path).unwrap().hand_over().unwrap();
    let (ready, go) = (Pipe::new(), Pipe::new());
    let child = fork(|| {
        let lock = PidLock::adopt(owned(handed.as_raw_fd()), path).unwrap();
        ready.send(0);
        go.receive();
        lock.release().unwrap();
        0
    });
    ready.receive();
    drop(handed);
    assert_eq!(probe(path), Ok(State::Held { holder: Pid::new(child.pid) }));
    go.send(0);
    assert_eq!(child.wait(), End::Exit(0));
    assert_eq!(probe(path), Ok(State::Absent));
}
