//! `Pid`: a number that can name one process, and its text. Pure.

use core::{fmt, iter::successors, num::NonZeroI32};

/// The longest content that a stamp writes over in one go, in bytes. Its own text is ten digits and a newline at most.
pub(crate) const STAMP_ROOM: usize = 32;

/// How much of a file is read for a claim, in bytes.
pub(crate) const CLAIM_MAX: usize = 64;

const _: () = assert!(i32::MAX.ilog10() as usize + 1 < STAMP_ROOM);

/// The ID of one process: 1..=2147483647.
///
/// Zero and negative numbers cannot be made. To kill(2) they mean "every process of my group" and "every process",
/// and a parsed `-1` or `0` has made real programs signal all of them. `Option<Pid>` takes 4 bytes.
///
/// A number means a process only within one PID namespace, and only until that process has been waited for:
/// pid_namespaces(7), credentials(7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// The first process of a PID namespace: 1.
    pub const INIT: Pid = match Pid::new(1) {
        Some(pid) => pid,
        None => unreachable!(),
    };

    /// The PID with this number; `None` for zero and below.
    #[must_use]
    pub const fn new(number: i32) -> Option<Pid> {
        match NonZeroI32::new(number) {
            Some(number) if number.get() > 0 => Some(Pid(number)),
            _ => None,
        }
    }

    /// The number, 1..=2147483647, as `pid_t` has it.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0.get()
    }

    /// The number, without the sign that it never has.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0.get().unsigned_abs()
    }

    /// The claim in a PID file whose first bytes are these; only the first 64 count.
    ///
    /// A claim is a first line of optional blanks (space, tab), decimal digits, optional blanks; after it comes the
    /// end, or a newline and anything. All else is no claim: nothing, `0`, `-1`, `+5`, `12abc`, `99999999999`, NULs,
    /// a first line of more than 63 bytes.
    ///
    /// ```
    /// # use pidflock::Pid;
    /// assert_eq!(Pid::parse(b"4242\n"), Pid::new(4242));
    /// assert_eq!(Pid::parse(b"-1\n"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Pid> {
        let head = text.get(..CLAIM_MAX).unwrap_or(text);
        let mut word = head.split(|byte| *byte == b'\n').next()?;
        if word.len() == CLAIM_MAX {
            return None; // a line that does not end in what was read may go on with anything
        }
        while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = word {
            word = rest;
        }
        let number = word.iter().try_fold(0_i32, |number, byte| match byte {
            b'0'..=b'9' => number.checked_mul(10)?.checked_add(i32::from(byte - b'0')),
            _ => None,
        });
        Pid::new(number?)
    }

    /// What a stamp writes: the digits and a newline, then more newlines to the end of the buffer. Also its length.
    pub(crate) fn stamp(self) -> ([u8; STAMP_ROOM], usize) {
        let mut text = [b'\n'; STAMP_ROOM];
        let digits = successors(Some(self.as_u32()), |rest| Some(rest / 10)).take_while(|rest| *rest > 0);
        let length = digits.clone().count();
        for (byte, rest) in text.iter_mut().take(length).rev().zip(digits) {
            *byte = b'0' + (rest % 10) as u8;
        }
        (text, length + 1)
    }
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
