//! The words of a command line: options, their values, operands.
//!
//! By the syntax guidelines of POSIX (chapter 12): one letter an option, letters may stand together, a value may follow
//! at once or as the next word, `--` ends the options.

use super::{Ended, HELP, misused, print};
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
    pub(crate) fn option(&mut self, flags: &[u8], valued: &[u8]) -> Ended<Option<(u8, &'static [u8])>> {
        if self.letters.is_empty() {
            let mut after = self.rest;
            let Some([b'-', letters @ ..]) = after.next().map(CStr::to_bytes) else { return Ok(None) };
            match letters {
                b"" => return Ok(None), // an operand
                b"h" | b"-help" => return Err(print(HELP)),
                [b'-', name @ ..] if !name.is_empty() => return Err(misused("no such option", name)),
                _ => self.rest = after,
            }
            if letters == b"-" {
                return Ok(None);
            }
            self.letters = letters;
        }
        let word = self.letters;
        let Some((letter, others)) = word.split_first() else { return Ok(None) };
        self.letters = others;
        if flags.iter().any(|flag| flag == letter) {
            return Ok(Some((*letter, b"")));
        }
        if !valued.iter().any(|flag| flag == letter) {
            return Err(misused("no such option", word));
        }
        self.letters = b"";
        if !others.is_empty() {
            return Ok(Some((*letter, others)));
        }
        match self.rest.next() {
            Some(value) => Ok(Some((*letter, value.to_bytes()))),
            None => Err(misused("the option needs a value", word)),
        }
    }

    /// The operand that names the PID file.
    pub(crate) fn pidfile(&mut self) -> Ended<&'static CStr> {
        self.rest.next().ok_or_else(|| misused("PIDFILE is missing", b""))
    }

    /// The same, and there is nothing after it.
    pub(crate) fn only_pidfile(mut self) -> Ended<&'static CStr> {
        let pidfile = self.pidfile()?;
        match self.rest.next() {
            Some(word) => Err(misused("one word too many", word.to_bytes())),
            None => Ok(pidfile),
        }
    }

    /// All that is left: a command and its arguments, at least the command.
    pub(crate) fn command(self) -> Ended<(&'static CStr, Arguments)> {
        let command = { self.rest }.next().ok_or_else(|| misused("COMMAND is missing", b""))?;
        Ok((command, self.rest))
    }
}

/// Decimal seconds: `10`, `0.5`. What is finer than a nanosecond is left away.
pub(crate) fn seconds(text: &'static [u8]) -> Ended<Duration> {
    let wrong = || misused("not a number of seconds", text);
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let Some(whole) = number(parts.next().unwrap_or_default(), 10) else { return Err(wrong()) };
    let (mut nanoseconds, mut unit) = (0, 100_000_000);
    for byte in parts.next().unwrap_or_default() {
        let Some(digit) = char::from(*byte).to_digit(10) else { return Err(wrong()) };
        nanoseconds += u64::from(digit) * unit;
        unit /= 10;
    }
    Ok(Duration::from_nanos(whole.saturating_mul(1_000_000_000).saturating_add(nanoseconds)))
}

/// An octal mode: at most three digits of permissions, and zeros before them.
pub(crate) fn mode(text: &'static [u8]) -> Ended<u32> {
    let mode = number(text, 8).filter(|mode| *mode <= 0o777).and_then(|mode| u32::try_from(mode).ok());
    mode.ok_or_else(|| misused("not a mode of permissions", text))
}

/// A signal by name or number.
pub(crate) fn signal(text: &'static [u8]) -> Ended<Signal> {
    let by_number = number(text, 10).and_then(|number| Signal::from_raw(i32::try_from(number).ok()?));
    by_number.or_else(|| Signal::named(text)).ok_or_else(|| misused("no such signal", text))
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
