//! Somebody else holds it: who, is it real, wait or give up.

use crate::{
    claim,
    error::Call,
    failure::Failure,
    fd::BorrowedFd,
    options::Wait,
    place::Place,
    process::Process,
    sys::{self, LockKind, Stat},
};

/// The first pause between two looks, in nanoseconds; each is twice as long as the one before.
const FIRST_PAUSE: u64 = 48_000;

/// After so many doublings pauses grow no more: 3 ms while we do not mean to wait, 49 ms while we do.
const MAX_DOUBLINGS: u32 = 6;
const MAX_DOUBLINGS_WAITING: u32 = 10;

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
pub(crate) struct Backoff {
    until: Until,
    /// While there is time.
    pauses: u32,
    /// When there is none left.
    looks: u32,
    turns: u32,
    /// No other process shares the open file. If one did, asking for a shared lock would turn its exclusive one into
    /// that, and then drop it.
    may_ask: bool,
}

/// `Wait`, as a moment of the clock.
enum Until {
    /// Until it is sure that somebody holds it.
    Never,
    /// Until this moment of `sys::now`.
    Deadline(u64),
    /// Until it is let go.
    Forever,
}

impl Until {
    /// How much of the wait is left, in nanoseconds.
    #[inline(always)]
    fn left(&self) -> Result<u64, Failure> {
        match self {
            Until::Never => Ok(0),
            Until::Deadline(deadline) => Ok(deadline.saturating_sub(sys::now(sys::MONOTONIC)?)),
            Until::Forever => Ok(u64::MAX),
        }
    }
}

impl Backoff {
    pub(crate) fn new(wait: Wait) -> Result<Backoff, Failure> {
        let until = match wait {
            Wait::Never => Until::Never,
            Wait::For(time) => Until::Deadline(
                sys::now(sys::MONOTONIC)?.saturating_add(time.as_nanos().try_into().unwrap_or(u64::MAX)),
            ),
            Wait::Forever => Until::Forever,
        };
        Ok(Backoff { until, pauses: 0, looks: 0, turns: 0, may_ask: true })
    }

    /// For an open file that another process may share; does not wait.
    pub(crate) fn for_shared_file() -> Backoff {
        Backoff { until: Until::Never, pauses: 0, looks: 0, turns: 0, may_ask: false }
    }

    /// Returns when steps 3 to 5, which have failed with this failure, may be tried again; or the error, if they may not.
    pub(crate) fn retry(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure {
            Failure::REPLACED if self.turns + 1 < TURNS => {
                self.turns += 1;
                Ok(())
            }
            // Its holder has yet to stamp. Or a lease has kept us from opening the file: there is nothing to sleep on.
            Failure::LOCKED_BY_UNKNOWN => {
                let left = self.until.left()?;
                if left > 0 {
                    sys::sleep(self.next_pause(left));
                    return Ok(());
                }
                let looks = if matches!(self.until, Until::Never) { LOOKS_AT_NOBODY } else { 0 };
                self.look_again(looks, failure)
            }
            _ => Err(failure),
        }
    }

    /// Another open file keeps us from a lock of this kind. Returns when that may have changed.
    pub(crate) fn wait_for_change(&mut self, file: BorrowedFd<'_>, kind: LockKind) -> Result<(), Failure> {
        self.turns = 0;
        // Whoever has it, and however. If this file system cannot wait, we look again at intervals; if it cannot lock, the
        // next look says so.
        if matches!(self.until, Until::Forever) && sys::lock(file, kind).is_ok() {
            return Ok(());
        }
        let left = self.until.left()?;
        let shared = kind == LockKind::Exclusive && self.may_ask && matches!(is_free(file), Ok(true));
        // A claim beside a shared lock is stale. The one of a dead process is, too: its successor has yet to stamp.
        let holder = if shared { None } else { holder(file) };
        if left == 0 {
            // Only a shared lock is worth another look, since nobody holds the name.
            let looks = match (shared, self.may_ask) {
                (true, _) => LOOKS_AT_SHARED,
                (false, true) => 0,
                (false, false) => LOOKS_AT_NOBODY, // it may be a shared one
            };
            return self.look_again(looks, Failure::locked_by(holder.as_ref().map(Process::pid)));
        }
        if holder.is_some() {
            self.pauses = self.pauses.max(MAX_DOUBLINGS); // it holds for good, not for an instant
        }
        let pause = self.next_pause(left);
        match holder {
            Some(process) => process.sleep(pause),
            None => sys::sleep(pause),
        }
        Ok(())
    }

    /// How long to sleep while there is time, in nanoseconds: not longer than what is left.
    #[inline(always)] // as above
    fn next_pause(&mut self, left: u64) -> u64 {
        let pause = FIRST_PAUSE << self.pauses.min(MAX_DOUBLINGS_WAITING);
        self.pauses = self.pauses.saturating_add(1);
        pause.min(left)
    }

    /// When there is no time left: sleeps, if there were fewer looks than this since then.
    #[inline(always)] // so that a program that never waits leaves the clock out
    fn look_again(&mut self, looks: u32, refused: Failure) -> Result<(), Failure> {
        if self.looks >= looks {
            return Err(refused);
        }
        sys::sleep(FIRST_PAUSE << self.looks.min(MAX_DOUBLINGS));
        self.looks += 1;
        Ok(())
    }
}

/// Steps 4 and 5, for either kind of lock: locks the file, and returns its status. `Replaced` if the name does not lead
/// to it, lock or no lock: then it was removed or replaced after we opened it, and the name is to be opened again.
///
/// A shared lock is only a question. It is let go at once, so that starters are kept waiting for an instant at most.
pub(crate) fn lock_and_verify(
    place: &Place,
    file: BorrowedFd<'_>,
    kind: LockKind,
    backoff: &mut Backoff,
) -> Result<Stat, Failure> {
    loop {
        let locked = match kind {
            LockKind::Exclusive => try_exclusive(file, backoff.may_ask)?,
            LockKind::Shared => is_free(file)?,
        };
        // Also without the lock: a loser to a holder that is leaving must move on to the next file.
        let stat = place.verify(file)?;
        if locked {
            return Ok(stat);
        }
        backoff.wait_for_change(file, kind)?;
    }
}

/// Step 4. On SMB, where locks are mandatory, flock(2) says `EACCES` beside another's lock: flock(2), "CIFS details".
fn try_exclusive(file: BorrowedFd<'_>, may_ask: bool) -> Result<bool, Failure> {
    match sys::try_lock(file, LockKind::Exclusive) {
        Err(FORBIDDEN) if is_unreadable(file) || may_ask && matches!(is_free(file), Ok(true)) => Ok(false),
        result => result,
    }
}

/// What flock(2) also says where a security module forbids every lock. That is no contention.
const FORBIDDEN: Failure = Failure::of(Call::Flock, libc::EACCES);

/// Whether reads are refused: another has a mandatory lock, since we have opened the file for reading.
fn is_unreadable(file: BorrowedFd<'_>) -> bool {
    matches!(claim::read(file), Err(failure) if failure.errno() == libc::EACCES)
}

/// Whether nobody holds the file: a shared lock can be had.
pub(crate) fn is_free(file: BorrowedFd<'_>) -> Result<bool, Failure> {
    let free = match sys::try_lock(file, LockKind::Shared) {
        Err(FORBIDDEN) if is_unreadable(file) => false,
        result => result?,
    };
    if free {
        let _what_was_seen_counts = sys::unlock(file);
    }
    Ok(free)
}

/// The living process that the file names. Errors are dropped on purpose: contention is reported even if the holder
/// cannot be found.
fn holder(file: BorrowedFd<'_>) -> Option<Process> {
    let pid = claim::read(file).ok().flatten()?;
    Process::find(pid).ok().flatten()
}
