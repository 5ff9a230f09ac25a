//! `pidflock signal`, `stop` and `wait`: what is done to a holder from outside.

use super::{Ended, Words, exit, failed, words};
use core::time::Duration;
use pidflock::{Error, Holder, Signal, Wait};

/// How long `stop` waits if it is not told.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Sends a signal to the holder.
pub(crate) fn signal(mut words: Words) -> Ended<u8> {
    let mut signal = Signal::TERM;
    while let Some((_, value)) = words.option(b"", b"s")? {
        signal = words::signal(value)?;
    }
    let pidfile = words.only_pidfile()?;
    pidflock::signal(pidfile, signal).map_err(|error| failed(pidfile, error))?;
    Ok(exit::OK)
}

/// Signals the holder and waits for the lock. A successor that takes the name meanwhile is not signalled, and not waited
/// for; a name that nobody holds is stopped already.
pub(crate) fn stop(mut words: Words) -> Ended<u8> {
    let (mut signal, mut time, mut kill) = (Signal::TERM, STOP_WAIT, false);
    while let Some((letter, value)) = words.option(b"k", b"st")? {
        match letter {
            b'k' => kill = true,
            b't' => time = words::seconds(value)?,
            _ => signal = words::signal(value)?,
        }
    }
    let pidfile = words.only_pidfile()?;
    let at = |error| failed(pidfile, error);
    let holder = match Holder::find(pidfile) {
        Err(Error::NotLocked) => return Ok(exit::OK),
        result => result.map_err(at)?,
    };
    let mut stopped = signal_and_wait(&holder, signal, time);
    if kill && matches!(stopped, Err(Error::AlreadyLocked { .. })) {
        stopped = signal_and_wait(&holder, Signal::KILL, time);
    }
    stopped.map_err(at)?;
    Ok(exit::OK)
}

fn signal_and_wait(holder: &Holder, signal: Signal, time: Duration) -> Result<(), Error> {
    match holder.signal(signal) {
        // It has died meanwhile, perhaps; its children may still have the lock.
        Ok(()) | Err(Error::NotLocked) => holder.wait(Wait::For(time)),
        Err(error) => Err(error),
    }
}

/// Waits until nobody holds it.
pub(crate) fn wait(mut words: Words) -> Ended<u8> {
    let mut wait = Wait::Forever;
    while let Some((_, value)) = words.option(b"", b"t")? {
        wait = Wait::For(words::seconds(value)?);
    }
    let pidfile = words.only_pidfile()?;
    let at = |error| failed(pidfile, error);
    super::announce(pidfile).map_err(at)?;
    pidflock::wait_released(pidfile, wait).map_err(at)?;
    Ok(exit::OK)
}
