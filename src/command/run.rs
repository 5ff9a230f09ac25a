//! `pidflock run`: lock, stamp, exec.

use super::{Failure, Line, Words, words};
use core::ffi::CStr;
use pidflock::{
    Error, Options, PidLock, Wait,
    command::{OnFileSizeSignal, Stream},
};

/// Becomes COMMAND, which keeps the PID and inherits the locked descriptor, and no other. Returns only to say why not.
pub(crate) fn run(mut words: Words) -> Result<u8, Failure> {
    let mut options = PidLock::options();
    let mut wait = Wait::Never;
    while let Some((letter, value)) = words.option("w", "tm")? {
        match letter {
            b'w' => wait = Wait::Forever,
            b't' => wait = Wait::For(words::seconds(value)?),
            _ => options = options.mode(words::mode(value)?),
        }
    }
    let pidfile = words.pidfile()?;
    let (command, arguments) = words.command()?;

    // A stamp beyond the file-size limit is to fail, not to kill us. COMMAND gets back what it would have had.
    let on_file_size = OnFileSizeSignal::IGNORE.exchange();
    let at = |error| Failure::At(pidfile, error);
    let locked = acquire(options, pidfile, wait).map_err(at)?.hand_over().map_err(at)?;
    on_file_size.exchange();
    let failed = arguments.exec();

    OnFileSizeSignal::IGNORE.exchange();
    PidLock::adopt(locked, pidfile).and_then(PidLock::release).map_err(at)?;
    Err(Failure::At(command, failed))
}

/// Takes the name, and says on a terminal whom it waits for.
fn acquire(options: Options, pidfile: &CStr, wait: Wait) -> Result<PidLock, Error> {
    if wait != Wait::Never && Stream::Err.is_terminal() {
        match options.acquire(pidfile) {
            Err(Error::AlreadyLocked { holder }) => Line::about(pidfile).waiting_for(holder).complain(),
            result => return result,
        }
    }
    options.wait(wait).acquire(pidfile)
}
