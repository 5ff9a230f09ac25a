//! A daemon that goes into the background: `forking_daemon PIDFILE`. It returns when the daemon is ready. TERM ends the
//! daemon.
//!
//! Exits with 75 if another process holds the name. Try it: `cargo run --example forking_daemon /tmp/demo/demo.pid`

use pidflock::{Error, PidLock};
use std::{
    env, error,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::ExitCode,
};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: forking_daemon PIDFILE");
        return ExitCode::from(64);
    };
    match start(path.as_encoded_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forking_daemon: {}: {error}", path.to_string_lossy());
            let held = matches!(error.downcast_ref(), Some(Error::AlreadyLocked { .. }));
            ExitCode::from(if held { 75 } else { 71 })
        }
    }
}

fn start(path: &[u8]) -> Result<(), Box<dyn error::Error>> {
    let lock = PidLock::acquire(path)?; // before the fork: an error reaches the terminal
    let (mut ready, mut announce) = UnixStream::pair()?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error().into()), // drops and so releases the lock
        0 => {}
        _ => {
            lock.disown(); // from here on the child owns it
            drop(announce);
            ready.read_exact(&mut [0]).map_err(|_| "the daemon has died before it was ready")?;
            return Ok(());
        }
    }
    drop(ready);
    // SAFETY: plain system call.
    unsafe { libc::setsid() };
    lock.restamp()?; // from here on the file names the daemon
    detach();
    announce.write_all(b"!")?; // only now the parent exits, because the file names the daemon
    drop(announce);
    serve();
    Ok(lock.release()?)
}

/// Points the standard streams at /dev/null and changes to /. The lock's descriptor is 3 or above, and the lock keeps its
/// directory open.
fn detach() {
    // SAFETY: a string that ends in a NUL.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for stream in 0..=2 {
        // SAFETY: it takes two numbers. Nothing here owns a standard stream.
        unsafe { libc::dup2(null, stream) };
    }
    // SAFETY: as above.
    unsafe { libc::chdir(c"/".as_ptr()) };
}

/// Sleeps until TERM.
fn serve() {
    // SAFETY: a set of signals is integers, for which zeros are good.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGTERM) };
    // SAFETY: as above, and the old set is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    let mut signal = 0;
    // SAFETY: both pointers are to values of ours.
    unsafe { libc::sigwait(&raw const set, &raw mut signal) };
}
