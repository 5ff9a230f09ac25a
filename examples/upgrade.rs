//! A daemon that replaces itself with a newer program and keeps its name: `upgrade PIDFILE`. USR2 upgrades it, TERM ends it. It
//! keeps its PID. If the new program cannot be started, the old one goes on.
//!
//! Try it: `cargo run --example upgrade /tmp/demo/demo.pid`, and `pidflock signal -s USR2 /tmp/demo/demo.pid`

use pidflock::{Error, FromRawFd, IntoRawFd, OwnedFd, PidLock, RawFd};
use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// The variable that passes the descriptor of the lock to the new program image.
const LOCK_FD: &str = "UPGRADE_LOCK_FD";

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let (Some(program), Some(path)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: upgrade PIDFILE");
        return ExitCode::from(64);
    };
    match serve(&program, &path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upgrade: {}: {error}", path.to_string_lossy());
            ExitCode::from(if matches!(error, Error::AlreadyLocked { .. }) { 75 } else { 71 })
        }
    }
}

fn serve(program: &OsString, path: &OsString) -> Result<(), Error> {
    let signals = block(&[libc::SIGUSR2, libc::SIGTERM]); // they stay blocked across exec, so that none is lost
    let handed_over = env::var(LOCK_FD).ok().and_then(|number| number.parse::<RawFd>().ok());
    let mut lock = match handed_over {
        // SAFETY: the old program image handed this descriptor over, and nothing else uses it.
        Some(fd) => PidLock::adopt(unsafe { OwnedFd::from_raw_fd(fd) }, path.as_encoded_bytes())?,
        None => PidLock::acquire(path.as_encoded_bytes())?,
    };
    println!("serving as process {}, {}", lock.pid(), if handed_over.is_some() { "upgraded" } else { "started" });
    while next(&signals) == libc::SIGUSR2 {
        let fd = lock.hand_over()?.into_raw_fd();
        let error = Command::new(program).arg(path).env(LOCK_FD, fd.to_string()).exec();
        // exec returned: the new program could not be started, and this process still has the lock.
        eprintln!("upgrade: {}: {error}", program.to_string_lossy());
        // SAFETY: `hand_over` returned it.
        lock = PidLock::adopt(unsafe { OwnedFd::from_raw_fd(fd) }, path.as_encoded_bytes())?;
        println!("serving as process {}, as before", lock.pid());
    }
    lock.release()
}

/// Keeps these signals pending, for `next`.
fn block(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: a set of signals is integers, for which zeros are good.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: as above.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    // SAFETY: as above, and the old set is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    set
}

/// Sleeps until one of the signals arrives.
fn next(signals: &libc::sigset_t) -> libc::c_int {
    let mut signal = 0;
    // SAFETY: both pointers are to values of ours.
    unsafe { libc::sigwait(signals, &raw mut signal) };
    signal
}
