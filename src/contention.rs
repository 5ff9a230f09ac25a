//! Somebody else holds it: who, is it real, wait or give up.

use crate::{
    error::Error,
    fd::BorrowedFd,
    options::Wait,
    place::{self, Place},
    process::Process,
    sys::{self, Kind, Status},
};

/// The first pause between two looks, in nanoseconds; each is twice as long as the one before.
const FIRST_PAUSE: u64 = 48_000;

/// After so many doublings pauses grow no more: 3 ms while we do not mean to wait, 49 ms while we do.
const MOST_DOUBLINGS: u32 = 6;
const MOST_DOUBLINGS_WAITING: u32 = 10;

/// How often we look again, without meaning to wait, at a lock whose holder the file does not name, or at a lease: for 3
/// ms.
const LOOKS_AT_NOBODY: u32 = 6;

/// The same while somebody has a shared lock, also at the end of a wait, for 0.1 s: nobody *holds* the name, and to give
/// up would be wrong. A prober lets go within microseconds, unless it loses its processor meanwhile, to other probers
/// perhaps.
const LOOKS_AT_SHARED: u32 = 40;

/// How often in a row a file may vanish between two calls before we give up. Each time, somebody else has acquired and
/// released the name in between, so that even two such turns are rare.
const TURNS: u32 = 100;

/// How long we go on trying, and how far we have come.
pub(crate) struct Patience {
    until: Until,
    looks: u32,
    turns: u32,
}

enum Until {
    /// It is sure that somebody holds it.
    Sure,
    /// This moment of `sys::now`.
    Deadline(u64),
    /// It is let go.
    Released,
}

impl Patience {
    pub(crate) fn new(wait: Wait) -> Result<Patience, Error> {
        let until = match wait {
            Wait::Never => Until::Sure,
            Wait::For(time) => {
                Until::Deadline(sys::now()?.saturating_add(time.as_nanos().try_into().unwrap_or(u64::MAX)))
            }
            Wait::Forever => Until::Released,
        };
        Ok(Patience { until, looks: 0, turns: 0 })
    }

    /// Returns when steps 3 to 5, which have failed with this error, may be tried again; or the error, if they may not.
    pub(crate) fn again(&mut self, error: Error) -> Result<(), Error> {
        let left = match error {
            Error::Replaced if self.turns + 1 < TURNS => {
                self.turns += 1;
                return Ok(());
            }
            // Its holder has yet to stamp. Or a lease has kept us from opening the file: there is nothing to sleep on.
            Error::AlreadyLocked { holder: None } => match self.until {
                Until::Sure if self.looks < LOOKS_AT_NOBODY => u64::MAX,
                Until::Sure => 0,
                Until::Deadline(deadline) => deadline.saturating_sub(sys::now()?),
                Until::Released => u64::MAX,
            },
            _ => 0,
        };
        if left == 0 {
            return Err(error);
        }
        sys::sleep(left.min(self.pause(MOST_DOUBLINGS_WAITING)));
        self.looks = self.looks.saturating_add(1);
        Ok(())
    }

    /// Another open file keeps us from a lock of this kind. Returns when that may have changed.
    pub(crate) fn look(&mut self, file: BorrowedFd<'_>, kind: Kind) -> Result<(), Error> {
        self.turns = 0;
        let left = match self.until {
            Until::Released => return sys::lock(file, kind), // whoever has it, and however
            Until::Deadline(deadline) => deadline.saturating_sub(sys::now()?),
            Until::Sure => 0,
        };
        let shared = kind == Kind::Exclusive && matches!(is_free(file), Ok(true));
        // A claim beside a shared lock is stale. The one of a dead process is, too: its successor has yet to stamp.
        let holder = if shared { None } else { holder(file) };
        let refused = Error::AlreadyLocked { holder: holder.as_ref().map(Process::pid) };
        // When the time is over, only a shared lock is worth another look, since nobody holds the name.
        let looks = if shared { LOOKS_AT_SHARED } else { 0 };
        if left == 0 && self.looks >= looks {
            return Err(refused);
        }
        if left > 0 && holder.is_some() {
            self.looks = self.looks.max(MOST_DOUBLINGS); // it holds for good, not for an instant
        }
        let pause = match left {
            0 => self.pause(MOST_DOUBLINGS),
            left => left.min(self.pause(MOST_DOUBLINGS_WAITING)),
        };
        self.looks = self.looks.saturating_add(1);
        match holder {
            Some(process) => process.sleep(pause),
            None => sys::sleep(pause),
        }
        Ok(())
    }

    fn pause(&self, most_doublings: u32) -> u64 {
        FIRST_PAUSE << self.looks.min(most_doublings)
    }
}

/// Steps 4 and 5, for either kind of lock: locks the file, and returns its status. `Replaced` if the name does not lead
/// to it, lock or no lock: then it was removed or replaced after we opened it, and the name is to be opened again.
///
/// A shared lock is only a question. It is let go at once, so that starters are kept waiting for an instant at most.
pub(crate) fn contend(
    place: &Place,
    file: BorrowedFd<'_>,
    kind: Kind,
    patience: &mut Patience,
) -> Result<Status, Error> {
    loop {
        let locked = match kind {
            Kind::Exclusive => sys::try_lock(file, kind)?,
            Kind::Shared => is_free(file)?,
        };
        // Looked at in both cases: who has lost to a holder that is leaving must move on to the next file.
        let status = place.identify(file)?;
        if locked {
            return Ok(status);
        }
        patience.look(file, kind)?;
    }
}

/// Whether nobody holds the file: a shared lock can be had.
pub(crate) fn is_free(file: BorrowedFd<'_>) -> Result<bool, Error> {
    let free = sys::try_lock(file, Kind::Shared)?;
    if free {
        sys::unlock(file)?;
    }
    Ok(free)
}

/// The living process that the file names. Contention is told as such, whatever keeps us from finding out more.
pub(crate) fn holder(file: BorrowedFd<'_>) -> Option<Process> {
    let pid = place::claim(file).ok().flatten()?;
    Process::find(pid).ok().flatten()
}
