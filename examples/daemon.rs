//! A daemon that stays in the foreground, for a supervisor: `daemon PIDFILE`. HUP reloads it, TERM and INT end it.
//!
//! Exits with 75 if another process holds the name. Try it: `cargo run --example daemon /tmp/demo/demo.pid`

use pidflock::{Error, PidLock};
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: daemon PIDFILE");
        return ExitCode::from(64);
    };
    match serve(path.as_encoded_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daemon: {}: {error}", path.to_string_lossy());
            ExitCode::from(if matches!(error, Error::AlreadyLocked { .. }) { 75 } else { 71 })
        }
    }
}

fn serve(path: &[u8]) -> Result<(), Error> {
    let signals = block(&[libc::SIGHUP, libc::SIGTERM, libc::SIGINT]); // first, so that an early TERM releases, too
    let lock = PidLock::acquire(path)?;
    println!("serving as process {}", lock.pid());
    while next(&signals) == libc::SIGHUP {
        // ... read the configuration again ...
        lock.restamp()?; // writes the same PID: finit sees from the touched file that the daemon is ready again
        println!("reloaded");
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
