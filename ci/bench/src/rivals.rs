//! The same work with other implementations, through their public interfaces. A failure ends the program.

use crate::floor::Path;
use pidfile_rs::{Pidfile, PidfileError};
use pidlock::{Pidlock, PidlockError};
use std::{
    fs::{self, File, Permissions, TryLockError},
    io::{ErrorKind, Read, Write},
    os::unix::fs::PermissionsExt,
};

/// Acquire, stamp, release with pidfile-rs, which always flushes.
pub fn pidfile_rs(path: &Path) {
    let mut file = Pidfile::new(path.text().as_ref(), Permissions::from_mode(0o644)).expect("a free name");
    file.write().expect("a stamp");
}

pub fn pidfile_rs_refusal(path: &Path) -> i32 {
    match Pidfile::new(path.text().as_ref(), Permissions::from_mode(0o644)) {
        Err(PidfileError::AlreadyRunning { pid: Some(pid) }) => pid,
        result => panic!("{result:?}"),
    }
}

/// fslock, which never flushes and never removes the file.
pub fn fslock(path: &Path) {
    let mut file = fslock::LockFile::open(path.text()).expect("a file");
    assert!(file.try_lock_with_pid().expect("a lock"));
    file.unlock().expect("unlocked");
}

/// It does not report the holder, so this reads the file as its users do.
pub fn fslock_refusal(path: &Path) -> i32 {
    assert!(!fslock::LockFile::open(path.text()).and_then(|mut file| file.try_lock()).expect("a file"));
    number(&fs::read_to_string(path.text()).expect("a claim"))
}

/// pidlock, which has no lock but the existence of the file, and never flushes.
pub fn pidlock(path: &Path) {
    let mut lock = Pidlock::new_validated(path.text()).expect("a good path");
    lock.acquire().expect("a free name");
    lock.release().expect("released");
}

pub fn pidlock_refusal(path: &Path) -> i32 {
    let mut lock = Pidlock::new_validated(path.text()).expect("a good path");
    assert_eq!(lock.acquire(), Err(PidlockError::LockExists));
    pidlock_probe(path).expect("a holder")
}

/// The process that the file claims, if it is alive. Deletes a file whose process is dead.
pub fn pidlock_probe(path: &Path) -> Option<i32> {
    Pidlock::new_validated(path.text()).and_then(|lock| lock.get_owner()).expect("a good path")
}

/// fd-lock around a file of std.
pub fn fd_lock(path: &Path, sync: bool) {
    let mut lock = fd_lock::RwLock::new(open(path));
    let mut file = lock.try_write().expect("a free name");
    stamp(&mut file, sync);
    fs::remove_file(path.text()).expect("removed");
}

pub fn fd_lock_refusal(path: &Path) -> i32 {
    let mut lock = fd_lock::RwLock::new(open(path));
    assert_eq!(lock.try_write().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    claim(lock.into_inner())
}

/// `File::try_lock` of std.
pub fn std_file(path: &Path, sync: bool) {
    let mut file = open(path);
    file.try_lock().expect("a free name");
    stamp(&mut file, sync);
    fs::remove_file(path.text()).expect("removed");
}

pub fn std_file_refusal(path: &Path) -> i32 {
    let file = open(path);
    assert!(matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    claim(file)
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path.text()).expect("a file")
}

fn stamp(file: &mut File, sync: bool) {
    file.set_len(0).expect("an empty file");
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).expect("a stamp");
    if sync {
        file.sync_all().expect("flushed");
    }
}

fn claim(mut file: File) -> i32 {
    let mut text = String::new();
    file.read_to_string(&mut text).expect("a claim");
    number(&text)
}

fn number(text: &str) -> i32 {
    text.trim().parse().expect("a PID")
}
