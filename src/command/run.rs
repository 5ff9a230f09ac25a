//! `pidflock run`: lock, stamp, exec.

use super::{Ended, Words, failed, words};
use pidflock::{PidLock, Wait, command::OnFileSizeSignal};

/// Becomes COMMAND, which keeps the PID and inherits the locked descriptor, and no other. Returns only to say why not.
pub(crate) fn run(mut words: Words) -> Ended<u8> {
    let mut options = PidLock::options();
    let mut wait = Wait::Never;
    while let Some((letter, value)) = words.option(b"w", b"tm")? {
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
    let at = |error| failed(pidfile, error);
    if wait != Wait::Never {
        super::announce(pidfile).map_err(at)?;
    }
    let locked = options.wait(wait).acquire(pidfile).and_then(PidLock::hand_over).map_err(at)?;
    on_file_size.exchange();
    let error = arguments.exec();

    OnFileSizeSignal::IGNORE.exchange();
    let _the_first_error_counts = PidLock::adopt(locked, pidfile).and_then(PidLock::release);
    Err(failed(command, error))
}
