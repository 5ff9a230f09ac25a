//! A tokio service that is the only one of its name: `tokio-service PIDFILE`. It waits up to 5 seconds for its predecessor
//! to end. HUP reloads it. TERM ends it, even while it waits.

use pidflock::{Error, PidLock, Wait};
use std::{env, error, ffi::OsString, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: tokio-service PIDFILE");
        return ExitCode::from(64);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tokio-service: {error}");
            return ExitCode::from(71);
        }
    };
    let ended = runtime.block_on(serve(path.clone()));
    runtime.shutdown_background(); // a cancelled wait may sleep for another fifth of a second
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokio-service: {}: {error}", path.display());
            let held = matches!(error.downcast_ref(), Some(Error::AlreadyLocked { .. }));
            ExitCode::from(if held { 75 } else { 71 })
        }
    }
}

async fn serve(path: OsString) -> Result<(), Box<dyn error::Error>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let lock = tokio::select! {
        lock = acquire(path, Duration::from_secs(5)) => lock?,
        _ = terminate.recv() => return Ok(()),
    };
    println!("serving as process {}", lock.pid());
    loop {
        tokio::select! {
            _ = hangup.recv() => println!("reloaded"),
            _ = terminate.recv() => break,
        }
    }
    Ok(lock.release()?) // a few system calls do not need a thread
}

/// Waits in turns on a thread that may block. A future that is dropped between two turns starts no more of them. A turn that
/// was running ends, and releases a lock that it got.
async fn acquire(path: OsString, time: Duration) -> Result<PidLock, Box<dyn error::Error>> {
    const TURN: Duration = Duration::from_millis(200);
    for _ in 0..time.as_millis() / TURN.as_millis() {
        let path = path.clone();
        let turn = move || PidLock::options().wait(Wait::For(TURN)).acquire(path);
        match tokio::task::spawn_blocking(turn).await? {
            Err(Error::AlreadyLocked { .. }) => {}
            result => return Ok(result?),
        }
    }
    Ok(PidLock::acquire(path)?)
}
