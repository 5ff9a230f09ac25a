//! `Pid`: number <-> text. Pure.

use core::{error, fmt, num::NonZeroI32, str::FromStr};

/// The longest first line that can be a claim, in bytes.
pub(crate) const LINE_MAX: usize = 63;

/// How many decimal digits the largest PID has.
pub(crate) const DIGITS_MAX: usize = i32::MAX.ilog10() as usize + 1;

/// The ID of one process: 1..=2147483647.
///
/// A `Pid` is never zero or negative. To kill(2) such numbers mean "every process in my group" and "every process". A
/// parsed `-1` or `0` has made real programs signal all of them. `Option<Pid>` takes 4 bytes.
///
/// A PID names a process only within one PID namespace, and only until its parent has waited for that process:
/// pid_namespaces(7), credentials(7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// The first process of a PID namespace: 1.
    pub const INIT: Pid = match Pid::new(1) {
        Some(pid) => pid,
        None => unreachable!(),
    };

    /// The largest number that `pid_t` can hold: 2147483647. No kernel gives it to a process.
    pub const MAX: Pid = Pid(NonZeroI32::MAX);

    /// The PID with this number. `None` for zero and below.
    #[must_use]
    pub const fn new(number: i32) -> Option<Pid> {
        match NonZeroI32::new(number) {
            Some(number) if number.get() > 0 => Some(Pid(number)),
            _ => None,
        }
    }

    /// The number, 1..=2147483647, as a `pid_t`.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0.get()
    }

    /// The same as [`Pid::new`], under the name that [`Signal`](crate::Signal) and [`Errno`](crate::Errno) use.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Pid> {
        Pid::new(raw)
    }

    /// The same as [`Pid::get`], under the name that [`Signal`](crate::Signal) and [`Errno`](crate::Errno) use.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.get()
    }

    /// The number, unsigned.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0.get().unsigned_abs()
    }

    /// Reads the claim from the first bytes of a PID file.
    ///
    /// A claim is a first line of optional blanks (space, tab), decimal digits, and optional blanks or carriage
    /// returns. The text ends after that line, or a newline or NUL and anything else follows. All other text is no
    /// claim: nothing, `0`, `-1`, `+5`, `12abc`, `12 host`, `99999999999`, NULs at the beginning, a first line of more
    /// than 63 bytes. The page [`coming_from`](crate::coming_from) has a table of formats.
    ///
    /// ```
    /// # use pidflock::Pid;
    /// assert_eq!(Pid::parse(b"4242\n"), Pid::new(4242));
    /// assert_eq!(Pid::parse(b"-1\n"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Pid> {
        let mut word = text.split(|byte| matches!(byte, b'\n' | b'\0')).next()?;
        if word.len() > LINE_MAX {
            return None;
        }
        while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r'] = word {
            word = rest;
        }
        Pid::from_digits(word)
    }

    pub(crate) fn from_digits(text: &[u8]) -> Option<Pid> {
        number(text, 10).and_then(|number| i32::try_from(number).ok()).and_then(Pid::new)
    }
}

/// Writes a number in decimal digits to the head of the buffer. Returns the number of digits.
pub(crate) fn write_decimal(number: u32, buffer: &mut [u8]) -> u8 {
    let before = if number > 9 { write_decimal(number / 10, buffer) } else { 0 };
    if let Some(byte) = buffer.get_mut(usize::from(before)) {
        *byte = b'0' + (number % 10) as u8;
    }
    before + 1
}

/// Reads a number in digits of this base and nothing else.
pub(crate) fn number(text: &[u8], base: u8) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(base.into())?;
        number.checked_mul(base.into())?.checked_add(digit.into())
    })
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> i32 {
        pid.get()
    }
}

impl From<Pid> for u32 {
    fn from(pid: Pid) -> u32 {
        pid.as_u32()
    }
}

impl TryFrom<i32> for Pid {
    type Error = InvalidPid;

    fn try_from(number: i32) -> Result<Pid, InvalidPid> {
        Pid::new(number).ok_or(InvalidPid)
    }
}

/// For the numbers of `std::process::id` and `Child::id`.
impl TryFrom<u32> for Pid {
    type Error = InvalidPid;

    fn try_from(number: u32) -> Result<Pid, InvalidPid> {
        i32::try_from(number).ok().and_then(Pid::new).ok_or(InvalidPid)
    }
}

/// Accepts decimal digits and nothing else. [`Pid::parse`] reads the text of a PID file.
impl FromStr for Pid {
    type Err = InvalidPid;

    fn from_str(text: &str) -> Result<Pid, InvalidPid> {
        Pid::from_digits(text.as_bytes()).ok_or(InvalidPid)
    }
}

/// A number or text is not a PID: 1..=2147483647.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvalidPid;

impl fmt::Display for InvalidPid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a process ID")
    }
}

impl error::Error for InvalidPid {}
