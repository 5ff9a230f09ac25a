//! The floors: sequences of system calls, made directly through libc. A failure ends the program.
//!
//! The *floor* is the fewest calls that make a PID file at all. It is unsafe by design: see doc/cost.md. The *safe floors* are
//! the calls that pidflock makes, one by one. `main::count` reports when the two lists differ.

use std::{
    ffi::{CStr, CString, c_int},
    io::{self, Write},
    mem,
};

/// A path, and the directory and name that it consists of.
#[derive(Clone)]
pub struct Path {
    pub whole: CString,
    directory: CString,
    name: CString,
}

impl Path {
    pub fn new(path: &str) -> Path {
        let (directory, name) = path.rsplit_once('/').expect("a directory");
        let [whole, directory, name] = [path, directory, name].map(|text| CString::new(text).expect("no NUL"));
        Path { whole, directory, name }
    }

    pub fn text(&self) -> &str {
        self.whole.to_str().expect("UTF-8")
    }
}

/// The result of a call that must not return -1.
fn done(returned: impl TryInto<i64>) -> c_int {
    let returned = returned.try_into().unwrap_or(-1);
    assert!(returned >= 0, "{}", io::Error::last_os_error());
    returned as c_int
}

fn refused(returned: c_int, errno: c_int) {
    assert_eq!(returned, -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(errno));
}

pub fn close(fd: c_int) {
    done(unsafe { libc::close(fd) });
}

pub fn flock(fd: c_int, operation: c_int) {
    done(unsafe { libc::flock(fd, operation) });
}

/// Opens the file or creates it, and locks it.
fn open_and_lock(path: &CStr, operation: c_int) -> c_int {
    let fd = done(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC, 0o644) });
    flock(fd, operation);
    fd
}

/// Writes the PID of this process.
pub fn stamp(fd: c_int) {
    let mut buffer = [0; 16];
    let mut rest = &mut buffer[..];
    writeln!(rest, "{}", unsafe { libc::getpid() }).expect("room");
    let length = 16 - rest.len();
    assert_eq!(done(unsafe { libc::pwrite(fd, buffer.as_ptr().cast(), length, 0) }), length as c_int);
}

fn flush(fd: c_int, sync: bool) {
    if sync {
        done(unsafe { libc::fsync(fd) });
    }
}

/// The floor: acquire, stamp, release.
pub fn cycle(path: &Path, sync: bool) {
    let fd = open_and_lock(&path.whole, libc::LOCK_EX | libc::LOCK_NB);
    stamp(fd);
    flush(fd, sync);
    done(unsafe { libc::unlink(path.whole.as_ptr()) });
    close(fd);
}

/// The floor of waiting: the same calls, with as many holders at once as there are waiters. `during` runs while it is held.
pub fn wait(path: &Path, during: impl FnOnce()) {
    let fd = open_and_lock(&path.whole, libc::LOCK_EX);
    stamp(fd);
    during();
    unsafe { libc::unlink(path.whole.as_ptr()) }; // it may belong to another process, or be gone
    close(fd);
}

/// The floor of waiting for a file that is never removed, so that no comparison is necessary.
pub fn wait_kept(path: &Path, during: impl FnOnce()) {
    let fd = open_and_lock(&path.whole, libc::LOCK_EX);
    stamp(fd);
    during();
    done(unsafe { libc::ftruncate(fd, 0) });
    close(fd);
}

const FLAGS: c_int = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;

fn open_directory(path: &Path) -> c_int {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    done(unsafe { libc::openat(libc::AT_FDCWD, path.directory.as_ptr(), flags, 0) })
}

fn create(directory: c_int, path: &Path) -> c_int {
    unsafe { libc::openat(directory, path.name.as_ptr(), FLAGS | libc::O_CREAT | libc::O_EXCL, 0o644 as c_int) }
}

fn open_existing(directory: c_int, path: &Path, flags: c_int) -> c_int {
    unsafe { libc::openat(directory, path.name.as_ptr(), flags, 0) }
}

fn file_status(fd: c_int) -> libc::stat {
    let mut status: libc::stat = unsafe { mem::zeroed() };
    done(unsafe { libc::fstat(fd, &raw mut status) });
    status
}

/// What the name leads to; none if it leads nowhere.
fn name_status(directory: c_int, path: &Path) -> Option<libc::stat> {
    let mut status: libc::stat = unsafe { mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    let returned = unsafe { libc::fstatat(directory, path.name.as_ptr(), &raw mut status, flags) };
    (returned == 0).then_some(status)
}

/// Whether the name leads to this file.
fn names(directory: c_int, path: &Path, file: &libc::stat) -> bool {
    name_status(directory, path).is_some_and(|name| (name.st_dev, name.st_ino) == (file.st_dev, file.st_ino))
}

fn claim(fd: c_int) -> i32 {
    let mut buffer = [0_u8; 32];
    let length = done(unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) });
    let digits = buffer[..length as usize].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + i32::from(digit - b'0'))
}

/// The second half of the safe floor: remove what is ours, unlock, close.
fn release(directory: c_int, fd: c_int, path: &Path, file: &libc::stat) {
    let own = unsafe { libc::getpid() };
    assert_eq!(claim(fd), own);
    flock(fd, libc::LOCK_EX | libc::LOCK_NB); // another process may have the lock by now
    assert!(names(directory, path, file));
    done(unsafe { libc::unlinkat(directory, path.name.as_ptr(), 0) });
    flock(fd, libc::LOCK_UN);
    close(fd);
    close(directory);
}

/// The safe floor: acquire, stamp, release.
pub fn safe_cycle(path: &Path, sync: bool) {
    let directory = open_directory(path);
    let fd = done(create(directory, path));
    flock(fd, libc::LOCK_EX | libc::LOCK_NB);
    let file = file_status(fd);
    assert!(names(directory, path, &file));
    stamp(fd);
    flush(fd, sync);
    release(directory, fd, path, &file);
}

/// The safe floor of waiting: the fewest calls that ensure a single holder.
pub fn safe_wait(path: &Path, during: impl FnOnce()) {
    let directory = open_directory(path);
    let (fd, file) = loop {
        let fd = done(unsafe { libc::openat(directory, path.name.as_ptr(), FLAGS | libc::O_CREAT, 0o644 as c_int) });
        flock(fd, libc::LOCK_EX);
        let file = file_status(fd);
        if names(directory, path, &file) {
            break (fd, file);
        }
        close(fd); // removed between open and lock
    };
    stamp(fd);
    during();
    release(directory, fd, path, &file);
}

/// The safe floor of a refusal: the PID of a holder that is alive.
pub fn safe_refusal(path: &Path) -> i32 {
    let directory = open_directory(path);
    refused(create(directory, path), libc::EEXIST);
    let fd = done(open_existing(directory, path, FLAGS));
    refused(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) }, libc::EWOULDBLOCK);
    assert!(names(directory, path, &file_status(fd)));
    refused(unsafe { libc::flock(fd, libc::LOCK_SH | libc::LOCK_NB) }, libc::EWOULDBLOCK);
    let holder = living(claim(fd));
    close(fd);
    close(directory);
    holder
}

/// The PID, if its process is alive.
fn living(pid: i32) -> i32 {
    let pidfd = done(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    let mut ended = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(done(unsafe { libc::ppoll(&raw mut ended, 1, &raw const now, std::ptr::null()) }), 0);
    close(pidfd);
    pid
}

/// The safe floor of a probe: whether the name is held, and the claim; none if there is no file.
pub fn safe_probe(path: &Path) -> Option<(bool, i32)> {
    let directory = open_directory(path);
    let fd = open_existing(directory, path, FLAGS & !libc::O_RDWR);
    if fd < 0 {
        close(directory);
        return None;
    }
    let held = unsafe { libc::flock(fd, libc::LOCK_SH | libc::LOCK_NB) } == -1;
    if !held {
        flock(fd, libc::LOCK_UN);
    }
    assert!(names(directory, path, &file_status(fd)));
    if held {
        let holder = living(claim(fd));
        close(fd);
        close(directory);
        return Some((held, holder));
    }
    close(directory);
    let stale = claim(fd);
    close(fd);
    Some((held, stale))
}

/// The floor of a refusal: the claim in a locked file.
pub fn refusal(path: &Path) -> i32 {
    let fd = done(unsafe { libc::open(path.whole.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC, 0o644) });
    refused(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) }, libc::EWOULDBLOCK);
    let holder = claim(fd);
    close(fd);
    holder
}
