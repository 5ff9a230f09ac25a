//! A daemon that starts its newer program beside itself, and goes on serving if that fails: `upgrade_beside PIDFILE`. Reads
//! lines: `upgrade`, or anything else to stop.
//!
//! The new program inherits the locked descriptor and adopts it last, when nothing else can fail. If it fails before, it only
//! exits: the kernel closes its copy, and the old process keeps the lock. If it fails after, it must call `disown`. Dropping the
//! lock would release it and remove the file, although the old process goes on.
//!
//! FAIL=early and FAIL=late in the environment make an upgrade fail before and after the new program adopts the lock.

use pidflock::PidLock;
use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [path] => serve(PidLock::acquire(path)?, path),
        [path, lock, ready] => {
            // SAFETY: `upgrade` below left these two open for this program, and nothing else uses them.
            let descriptors = unsafe { [OwnedFd::from_raw_fd(lock.parse()?), OwnedFd::from_raw_fd(ready.parse()?)] };
            serve(take_over(descriptors, path)?, path)
        }
        _ => Err("usage: upgrade_beside PIDFILE".into()),
    }
}

/// Runs in the new program.
fn take_over([lock, ready]: [OwnedFd; 2], path: &str) -> Result<PidLock> {
    may_fail("early")?; // read the configuration, open the ports, ...
    let lock = PidLock::adopt(lock, path)?; // if this fails, the old process still has the lock
    let told = may_fail("late").and_then(|()| Ok(UnixStream::from(ready).write_all(b"!")?));
    if let Err(error) = told {
        lock.disown(); // not drop: the old process goes on
        return Err(error);
    }
    Ok(lock)
}

/// Runs in the old program: whether the new one has taken over. If not, this process still has the name.
fn upgrade(lock: &PidLock, path: &str) -> Result<bool> {
    let (mut ready, tell) = UnixStream::pair()?;
    let descriptors = [lock.as_raw_fd(), tell.as_raw_fd()];
    let mut command = Command::new(env::current_exe()?);
    command.arg(path).args(descriptors.map(|fd| fd.to_string()));
    // SAFETY: it makes a system call only, which is allowed between fork and exec.
    let mut child = unsafe { command.pre_exec(move || descriptors.into_iter().try_for_each(leave_open)) }.spawn()?;
    drop(tell);
    if ready.read_exact(&mut [0]).is_ok() {
        return Ok(true);
    }
    child.wait()?; // its copy of the descriptor is closed
    lock.restamp()?; // it may have stamped the file
    Ok(false)
}

/// Only in the child, which has its own table of descriptors.
fn leave_open(fd: RawFd) -> io::Result<()> {
    // SAFETY: it takes three numbers.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn serve(lock: PidLock, path: &str) -> Result<()> {
    println!("serving as {}", lock.pid());
    for line in io::stdin().lines() {
        match line?.as_str() {
            "upgrade" if upgrade(&lock, path)? => {
                lock.disown();
                return Ok(());
            }
            "upgrade" => println!("not upgraded, serving as {}", lock.pid()),
            _ => break,
        }
    }
    Ok(lock.release()?)
}

fn may_fail(when: &str) -> Result<()> {
    if env::var("FAIL").is_ok_and(|fails| fails == when) { Err(format!("failed {when}").into()) } else { Ok(()) }
}
