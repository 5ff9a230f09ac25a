//! The words of a command line: options, their values, operands.
//!
//! By the syntax guidelines of POSIX (chapter 12): one letter an option, letters may stand together, a value may follow
//! at once or as the next word, `--` ends the options.

use super::Failure;
use core::{ffi::CStr, time::Duration};
use pidflock::{Signal, command::Arguments};

/// What is left of the command line.
pub(crate) struct Words {
    rest: Arguments,
    /// What is left of a word of options.
    letters: &'static [u8],
}

impl Words {
    pub(crate) fn new(rest: Arguments) -> Words {
        Words { rest, letters: b"" }
    }

    /// The next option, if there is one: its letter, which is one of `flags`, or one of `valued` and has a value.
    pub(crate) fn option(&mut self, flags: &str, valued: &str) -> Result<Option<(u8, &'static [u8])>, Failure> {
        if self.letters.is_empty() {
            let mut after = self.rest;
            match after.next().map_or(&b""[..], CStr::to_bytes) {
                b"-h" | b"--help" => return Err(Failure::Help),
                b"-" => return Ok(None),
                [b'-', letters @ ..] => (self.rest, self.letters) = (after, letters),
                _ => return Ok(None),
            }
            match self.letters {
                b"-" => {
                    self.letters = b"";
                    return Ok(None);
                }
                [b'-', name @ ..] => return Err(Failure::Usage("no such option", name)),
                _ => {}
            }
        }
        let (letter, others) = self.letters.split_first().unwrap_or((&b'-', b""));
        let word = core::mem::replace(&mut self.letters, others);
        if flags.bytes().any(|flag| flag == *letter) {
            return Ok(Some((*letter, b"")));
        }
        if !valued.bytes().any(|flag| flag == *letter) {
            return Err(Failure::Usage("no such option", word));
        }
        self.letters = b"";
        if !others.is_empty() {
            return Ok(Some((*letter, others)));
        }
        match self.rest.next() {
            Some(value) => Ok(Some((*letter, value.to_bytes()))),
            None => Err(Failure::Usage("the option needs a value", word)),
        }
    }

    /// The operand that names the PID file.
    pub(crate) fn pidfile(&mut self) -> Result<&'static CStr, Failure> {
        self.rest.next().ok_or(Failure::Usage("PIDFILE is missing", b""))
    }

    /// The same, and there is nothing after it.
    pub(crate) fn only_pidfile(mut self) -> Result<&'static CStr, Failure> {
        let pidfile = self.pidfile()?;
        match self.rest.next() {
            Some(word) => Err(Failure::Usage("one word too many", word.to_bytes())),
            None => Ok(pidfile),
        }
    }

    /// All that is left: a command and its arguments, at least the command.
    pub(crate) fn command(self) -> Result<(&'static CStr, Arguments), Failure> {
        let command = { self.rest }.next().ok_or(Failure::Usage("COMMAND is missing", b""))?;
        Ok((command, self.rest))
    }
}

/// Decimal seconds: `10`, `0.5`. What is finer than a nanosecond is left away.
pub(crate) fn seconds(text: &'static [u8]) -> Result<Duration, Failure> {
    let wrong = Failure::Usage("not a number of seconds", text);
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let Some(whole) = number(parts.next().unwrap_or_default(), 10) else { return Err(wrong) };
    let (mut nanoseconds, mut unit) = (0, 100_000_000);
    for byte in parts.next().unwrap_or_default() {
        let Some(digit) = char::from(*byte).to_digit(10) else { return Err(wrong) };
        nanoseconds += u64::from(digit) * unit;
        unit /= 10;
    }
    Ok(Duration::from_nanos(whole.saturating_mul(1_000_000_000).saturating_add(nanoseconds)))
}

/// An octal mode: at most three digits of permissions, and zeros before them.
pub(crate) fn mode(text: &'static [u8]) -> Result<u32, Failure> {
    let mode = number(text, 8).filter(|mode| *mode <= 0o777).and_then(|mode| u32::try_from(mode).ok());
    mode.ok_or(Failure::Usage("not a mode of permissions", text))
}

/// A signal by name or number.
pub(crate) fn signal(text: &'static [u8]) -> Result<Signal, Failure> {
    let by_number = number(text, 10).and_then(|number| Signal::from_raw(i32::try_from(number).ok()?));
    let by_name = || Signal::from_name(core::str::from_utf8(text).ok()?);
    by_number.or_else(by_name).ok_or(Failure::Usage("no such signal", text))
}

/// A number in digits of this base, and nothing else.
fn number(text: &[u8], base: u32) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        number.checked_mul(base.into())?.checked_add(char::from(*byte).to_digit(base)?.into())
    })
}
