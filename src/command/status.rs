//! `pidflock status`: who holds it, with the exit codes of an LSB init script.

use super::{Ended, Line, Words, exit};
use pidflock::{State, command::Stream};

/// Prints the holder's PID to standard output, and all other answers to standard error.
pub(crate) fn status(mut words: Words) -> Ended<u8> {
    words.option(b"", b"")?;
    let pidfile = words.only_pidfile()?;
    let mut line = Line::about(pidfile);
    let code = match pidflock::probe(pidfile) {
        Ok(State::Held { holder: Some(pid) }) => match Line::empty().number(pid.as_u32()).send(Stream::OUT) {
            Ok(()) => return Ok(exit::OK),
            Err(error) => {
                line.error(error);
                exit::STATUS_UNKNOWN
            }
        },
        Ok(State::Held { holder: None }) => {
            line.text("locked by a process that cannot be named");
            exit::OK
        }
        Ok(State::Free { stale }) => {
            line.text("not locked");
            if let Some(pid) = stale {
                line.text("; left behind by ").process(pid);
            }
            exit::STATUS_STALE
        }
        Ok(State::Absent) => {
            line.text("no such file");
            exit::STATUS_ABSENT
        }
        Err(error) => {
            line.error(error);
            exit::STATUS_UNKNOWN
        }
    };
    line.complain();
    Ok(code)
}
