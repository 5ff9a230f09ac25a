//! `pidflock status`: who holds the name, with the exit codes of an LSB init script.

use super::{
    line::Line,
    report::{Ended, exit, name_holder, name_survivor},
    sys::Stream,
    words::Words,
};
use pidflock::State;

/// Prints the holder's PID to standard output, and every other answer to standard error.
pub(crate) fn status(mut words: Words) -> Ended<u8> {
    words.options(b"")?;
    let pidfile = words.only_pidfile()?;
    let mut line = Line::about(pidfile);
    let code = match pidflock::probe(pidfile) {
        Ok(State::Held { holder: Some(pid) }) => match Line::empty().number(pid.as_u32()).send(Stream::OUT) {
            Ok(()) => return Ok(exit::OK),
            Err(errno) => {
                line.failure("write", errno);
                exit::STATUS_UNKNOWN
            }
        },
        Ok(state) => {
            match state {
                State::Held { holder } => _ = name_holder(&mut line, pidfile, holder),
                State::Free { .. } if name_survivor(&mut line, pidfile).is_some() => {}
                _ => _ = line.message(state.message()),
            }
            match state {
                State::Held { .. } => exit::OK,
                State::Free { .. } => exit::STATUS_STALE,
                State::Absent => exit::STATUS_ABSENT,
            }
        }
        Err(error) => {
            line.message(error.message());
            exit::STATUS_UNKNOWN
        }
    };
    line.complain();
    Ok(code)
}
