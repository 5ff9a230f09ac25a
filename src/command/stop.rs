//! `pidflock signal`, `stop` and `wait`: act on a holder from outside.

use super::{
    line::Line,
    report::{Ended, announce, exit, failed, name_survivor},
    words::Words,
};
use core::{ffi::CStr, time::Duration};
use pidflock::{Error, Holder, Signal, Wait};

/// How long `stop` waits by default.
const STOP_WAIT: Wait = Wait::For(Duration::from_secs(10));

/// Sends a signal to the holder.
pub(crate) fn signal(mut words: Words) -> Ended<u8> {
    let chosen = words.options(b"s:")?;
    let pidfile = words.only_pidfile()?;
    pidflock::signal(pidfile, chosen.signal).map_err(|error| failed(pidfile, error))?;
    Ok(exit::OK)
}

/// Signals the holder and waits until it releases the lock. Neither signals nor waits for a successor that takes the
/// name in between. A name that no process holds is stopped already.
pub(crate) fn stop(mut words: Words) -> Ended<u8> {
    let chosen = words.options(b"ks:t:")?;
    let wait = chosen.wait.unwrap_or(STOP_WAIT);
    let pidfile = words.only_pidfile()?;
    let fail = |error| failed(pidfile, error);
    let holder = match Holder::find(pidfile) {
        Err(Error::NotLocked) => return stopped_already(pidfile),
        result => result.map_err(fail)?,
    };
    let mut stopped = signal_and_wait(&holder, chosen.signal, wait);
    if chosen.kill && matches!(stopped, Err(Error::AlreadyLocked { .. })) {
        stopped = signal_and_wait(&holder, Signal::KILL, wait);
    }
    stopped.map_err(fail)?;
    Ok(exit::OK)
}

/// No process holds the name. If the process that the file names is alive, silent success would mislead.
fn stopped_already(pidfile: &CStr) -> Ended<u8> {
    let mut line = Line::about(pidfile);
    let Some(line) = name_survivor(&mut line, pidfile) else { return Ok(exit::OK) };
    line.complain();
    Err(exit::SYSTEM)
}

fn signal_and_wait(holder: &Holder, signal: Signal, wait: Wait) -> Result<(), Error> {
    let signalled = holder.signal(signal);
    if signal != Signal::CHECK {
        // A stopped process handles nothing until it continues. The first signal decides the result.
        let _not_stopped_as_a_rule = holder.signal(Signal::CONT);
    }
    match signalled {
        // It may just have died. Its children may still have the lock.
        Ok(()) | Err(Error::NotLocked) => holder.wait(wait),
        Err(error) => Err(error),
    }
}

/// Waits until no process holds the name.
pub(crate) fn wait(mut words: Words) -> Ended<u8> {
    let chosen = words.options(b"t:")?;
    let pidfile = words.only_pidfile()?;
    let fail = |error| failed(pidfile, error);
    announce(pidfile).map_err(fail)?;
    pidflock::wait_released(pidfile, chosen.wait.unwrap_or(Wait::Forever)).map_err(fail)?;
    Ok(exit::OK)
}
