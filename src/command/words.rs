//! The words of a command line: options, their values, operands.
//!
//! Follows the syntax guidelines of POSIX (chapter 12). An option is one letter, and letters may be combined. A value
//! follows at once or as the next word. `--` ends the options.

use super::{
    report::{Ended, HELP, misused, print},
    sys::Arguments,
};
use core::{ffi::CStr, time::Duration};
use pidflock::{Signal, Wait};

/// The rest of the command line.
pub(crate) struct Words {
    rest: Arguments,
    /// The rest of a word of options.
    letters: &'static [u8],
}

/// The values of the options. Each subcommand reads those that it takes.
pub(crate) struct Chosen {
    /// `-E CODE`
    pub(crate) held: Option<u8>,
    /// `-o` or `-x`, whichever comes last
    pub(crate) holders: Holders,
    /// `-k`
    pub(crate) kill: bool,
    /// `-m MODE`
    pub(crate) mode: Option<u32>,
    /// `-s SIGNAL`
    pub(crate) signal: Signal,
    /// `-t SECONDS` or `-w`, whichever comes last
    pub(crate) wait: Option<Wait>,
}

/// The processes that hold the lock under `run`.
#[derive(PartialEq, Eq)]
pub(crate) enum Holders {
    CommandAndGuard,
    /// `-o`
    Guard,
    /// `-x`
    Command,
}

/// One option of the command line.
struct Given {
    letter: u8,
    /// Empty for an option without one.
    value: &'static [u8],
}

impl Words {
    pub(crate) fn new(rest: Arguments) -> Words {
        Words { rest, letters: b"" }
    }

    /// Reads all options. `notation` lists those of the subcommand, as for getopt(3): a letter, and a colon if the
    /// option takes a value.
    pub(crate) fn options(&mut self, notation: &[u8]) -> Ended<Chosen> {
        let holders = Holders::CommandAndGuard;
        let mut chosen = Chosen { held: None, holders, kill: false, mode: None, signal: Signal::TERM, wait: None };
        while let Some(Given { letter, value }) = self.option(notation)? {
            match letter {
                b'E' => chosen.held = Some(code(value)?),
                b'k' => chosen.kill = true,
                b'm' => chosen.mode = Some(mode(value)?),
                b'o' => chosen.holders = Holders::Guard,
                b's' => chosen.signal = signal(value)?,
                b't' => chosen.wait = Some(Wait::For(seconds(value)?)),
                b'w' => chosen.wait = Some(Wait::Forever),
                b'x' => chosen.holders = Holders::Command,
                _ => return Err(misused("unknown option", &[letter])),
            }
        }
        Ok(chosen)
    }

    /// The next option, if there is one.
    fn option(&mut self, notation: &[u8]) -> Ended<Option<Given>> {
        if self.letters.is_empty() && !self.next_word_of_options()? {
            return Ok(None);
        }
        let word = self.letters;
        let Some((&letter, others)) = word.split_first() else { return Ok(None) };
        let mut known = notation.iter().skip_while(|known| **known != letter);
        if letter == b':' || known.next().is_none() {
            return Err(misused("unknown option", word));
        }
        if known.next() != Some(&b':') {
            self.letters = others;
            return Ok(Some(Given { letter, value: b"" }));
        }
        self.letters = b"";
        if !others.is_empty() {
            return Ok(Some(Given { letter, value: others }));
        }
        match self.rest.next() {
            Some(value) => Ok(Some(Given { letter, value: value.to_bytes() })),
            None => Err(misused("option requires a value", word)),
        }
    }

    /// Takes the next word of the command line, if it holds options.
    fn next_word_of_options(&mut self) -> Ended<bool> {
        let mut after = self.rest;
        let Some([b'-', letters @ ..]) = after.next().map(CStr::to_bytes) else { return Ok(false) };
        match letters {
            b"" => return Ok(false), // an operand
            b"h" | b"-help" => return Err(print(HELP)),
            [b'-', name @ ..] if !name.is_empty() => return Err(misused("unknown option", name)),
            _ => self.rest = after,
        }
        if letters == b"-" {
            return Ok(false);
        }
        self.letters = letters;
        Ok(true)
    }

    /// The operand that names the PID file.
    pub(crate) fn pidfile(&mut self) -> Ended<&'static CStr> {
        self.rest.next().ok_or_else(|| misused("missing PIDFILE", b""))
    }

    /// The PID file, as the last operand.
    pub(crate) fn only_pidfile(mut self) -> Ended<&'static CStr> {
        let pidfile = self.pidfile()?;
        match self.rest.next() {
            Some(word) => Err(misused("unexpected argument", word.to_bytes())),
            None => Ok(pidfile),
        }
    }

    /// The rest: a command and its arguments. At least the command is there.
    pub(crate) fn command(self) -> Ended<(&'static CStr, Arguments)> {
        let command = { self.rest }.next().ok_or_else(|| misused("missing COMMAND", b""))?;
        Ok((command, self.rest))
    }
}

/// Decimal seconds: `10`, `0.5`, `.5`. Digits below a nanosecond are dropped.
fn seconds(text: &'static [u8]) -> Ended<Duration> {
    let wrong = || misused("invalid number of seconds", text);
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = match parts.next() {
        Some(b"") if text.len() > 1 => Some(0),
        whole => number(whole.unwrap_or_default(), 10),
    };
    let Some(whole) = whole else { return Err(wrong()) };
    let (mut nanoseconds, mut unit) = (0, 100_000_000);
    for byte in parts.next().unwrap_or_default() {
        let Some(digit) = char::from(*byte).to_digit(10) else { return Err(wrong()) };
        nanoseconds += u64::from(digit) * unit;
        unit /= 10;
    }
    Ok(Duration::from_nanos(whole.saturating_mul(1_000_000_000).saturating_add(nanoseconds)))
}

/// An octal mode: at most three digits of permissions, and zeros before them.
fn mode(text: &'static [u8]) -> Ended<u32> {
    let mode = number(text, 8).filter(|mode| *mode <= 0o777).and_then(|mode| u32::try_from(mode).ok());
    mode.ok_or_else(|| misused("invalid mode", text))
}

/// An exit code.
fn code(text: &'static [u8]) -> Ended<u8> {
    let code = number(text, 10).and_then(|code| u8::try_from(code).ok());
    code.ok_or_else(|| misused("invalid exit code", text))
}

/// A signal by name or number.
fn signal(text: &'static [u8]) -> Ended<Signal> {
    Signal::parse(text).ok_or_else(|| misused("invalid signal", text))
}

/// Reads a number in digits of this base and nothing else.
fn number(text: &[u8], base: u32) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        number.checked_mul(base.into())?.checked_add(char::from(*byte).to_digit(base)?.into())
    })
}
