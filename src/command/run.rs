//! `pidflock run`: lock, stamp, exec.

use super::{
    report::{Ended, announce, call_failed, exit, failed},
    sys::OnFileSizeSignal,
    words::Words,
};
use pidflock::{Errno, PidLock, Wait};

/// Becomes COMMAND, which keeps the PID and inherits the locked descriptor, and no other. Returns only to say why not.
pub(crate) fn run(mut words: Words) -> Ended<u8> {
    let chosen = words.options(b"wt:m:")?;
    let pidfile = words.pidfile()?;
    let (command, arguments) = words.command()?;
    let mut options = PidLock::options();
    if let Some(mode) = chosen.mode {
        options = options.mode(mode);
    }
    let wait = chosen.wait.unwrap_or(Wait::Never);

    // A stamp beyond the file-size limit is to fail, not to kill us. COMMAND gets back what it would have had.
    let on_file_size = OnFileSizeSignal::IGNORE.exchange();
    let fail = |error| failed(pidfile, error);
    if wait != Wait::Never {
        announce(pidfile).map_err(fail)?;
    }
    let locked = options.wait(wait).acquire(pidfile).and_then(PidLock::hand_over).map_err(fail)?;
    on_file_size.exchange();
    let errno = arguments.exec();

    // Writes no more than was written before, within the limit.
    let _the_first_error_counts = PidLock::adopt(locked, pidfile).and_then(PidLock::release);
    call_failed(command, "exec", errno);
    Err(if errno == Errno::NotFound { exit::NO_COMMAND } else { exit::CANNOT_EXECUTE })
}
