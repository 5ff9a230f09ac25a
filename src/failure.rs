//! `Failure`: an error in one word, for use inside the library. Pure.
//!
//! An [`Error`] has a tag and fields, which every `?` takes apart and puts together again. A `Failure` is one number. The
//! public functions convert it into an `Error`.

use crate::{
    error::{Call, Errno, Error},
    pid::Pid,
};
use core::num::NonZeroI32;

/// An [`Error`] as a number:
///
/// | number                     | meaning                                                        |
/// |----------------------------|----------------------------------------------------------------|
/// | -2147483648                | contention; the holder is unknown                              |
/// | -2147483647 to -1          | contention; the holder's PID, negated                          |
/// | reason * 65536             | a reason, by its number below                                  |
/// | call * 65536 + errno       | a failed system call: its place in [`Call`], and 1 to 65535    |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure(NonZeroI32);

/// The lowest bit above an errno.
const HIGH: i32 = 1 << 16;

impl Failure {
    pub(crate) const INVALID_PATH: Failure = Failure::reason(1);
    pub(crate) const NOT_A_PID_FILE: Failure = Failure::reason(2);
    pub(crate) const REPLACED: Failure = Failure::reason(3);
    pub(crate) const NOT_LOCKED: Failure = Failure::reason(4);
    pub(crate) const UNTRUSTED: Failure = Failure::reason(5);
    pub(crate) const LOCKED_BY_UNKNOWN: Failure = Failure(NonZeroI32::MIN);

    const fn reason(reason: i32) -> Failure {
        Failure::nonzero(reason * HIGH)
    }

    /// Contention: another open file has the lock.
    pub(crate) fn locked_by(holder: Option<Pid>) -> Failure {
        holder.map_or(Failure::LOCKED_BY_UNKNOWN, |holder| Failure::nonzero(-holder.get()))
    }

    /// A failed system call. An errno outside 1 to 65535, which no kernel returns, becomes 65535.
    pub(crate) const fn of(call: Call, errno: i32) -> Failure {
        let errno = if 0 < errno && errno < HIGH { errno } else { HIGH - 1 };
        Failure::nonzero(call as i32 * HIGH + errno)
    }

    const fn nonzero(number: i32) -> Failure {
        match NonZeroI32::new(number) {
            Some(number) => Failure(number),
            None => Failure::LOCKED_BY_UNKNOWN, // never: see the table
        }
    }

    /// The errno of a failed system call. For everything else a number below 1, which is no errno.
    pub(crate) fn errno(self) -> i32 {
        self.0.get() & (i32::MIN | (HIGH - 1)) // with the sign, so that contention stays below 1
    }

    pub(crate) fn is_contention(self) -> bool {
        self.0.get() < 0
    }

    /// The holder, if this is contention and the holder is known.
    pub(crate) fn holder(self) -> Option<Pid> {
        self.0.get().checked_neg().and_then(Pid::new)
    }

    /// Whether a seccomp filter or a security module may have refused just this call. Kernels that are older, or built
    /// without the call, give the same answers.
    #[cfg(any(pidfd, statx))]
    pub(crate) fn is_refused_call(self) -> bool {
        matches!(self.errno(), libc::ENOSYS | libc::EPERM | libc::EACCES | libc::ENODEV)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            _ if failure.is_contention() => Error::AlreadyLocked { holder: failure.holder() },
            Failure::INVALID_PATH => Error::InvalidPath,
            Failure::NOT_A_PID_FILE => Error::NotAPidFile,
            Failure::REPLACED => Error::Replaced,
            Failure::NOT_LOCKED => Error::NotLocked,
            Failure::UNTRUSTED => Error::Untrusted,
            _ => match Call::at(failure.0.get() / HIGH) {
                Some(call) => Error::Sys { call, errno: Errno::from_raw(failure.errno()) },
                None => Error::Replaced, // never: see the table
            },
        }
    }
}

/// The value, or `None` if the kernel said that there is no such file.
pub(crate) fn found<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(failure) if failure.errno() == libc::ENOENT => Ok(None),
        result => result.map(Some),
    }
}
