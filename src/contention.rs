//! Another process has the lock: find out which, then retry, wait or give up.

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

/// The first pause between two tries, in nanoseconds. Each pause is twice as long as the one before.
const FIRST_PAUSE: u64 = 48_000;

/// After so many doublings, pauses stop growing: at 3 ms if the caller does not wait, at 49 ms if it does.
const MAX_DOUBLINGS: u32 = 6;
const MAX_DOUBLINGS_WAITING: u32 = 10;

/// The number of retries if the caller does not wait, and the file does not name its holder or is under a lease: 3 ms.
const LOOKS_AT_NOBODY: u32 = 6;

/// The number of retries while another process has a shared lock, even at the end of a wait: 100 ms. That process does
/// not *hold* the name, so giving up would be wrong. A prober releases within microseconds, unless it loses its
/// processor, perhaps to other probers.
const LOOKS_AT_SHARED: u32 = 40;

/// How often in a row a file may vanish between two calls before we give up. Each time, another process acquired and
/// released the name in between. Even two such turns are rare.
const TURNS: u32 = 100;

/// How long to retry, and how often we have.
pub(crate) struct Backoff {
    until: Until,
    /// The pauses made while there is time.
    pauses: u32,
    /// The tries made when no time is left.
    looks: u32,
    turns: u32,
    /// No other process shares the open file. If one did, asking for a shared lock would downgrade its exclusive lock,
    /// and then drop it.
    may_ask: bool,
}

/// `Wait`, as a point in time.
enum Until {
    /// Until another process surely holds it.
    Never,
    /// Until `sys::now` reaches this.
    Deadline(u64),
    /// Until it is released.
    Forever,
}

impl Until {
    /// The rest of the wait, in nanoseconds.
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

    /// For an open file that another process may share. Does not wait.
    pub(crate) fn for_shared_file() -> Backoff {
        Backoff { until: Until::Never, pauses: 0, looks: 0, turns: 0, may_ask: false }
    }

    /// Sleeps until the caller may repeat steps 3 to 5 after this failure, or returns the failure.
    pub(crate) fn retry(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure {
            Failure::REPLACED if self.turns + 1 < TURNS => {
                self.turns += 1;
                Ok(())
            }
            // Its holder has not stamped it yet. Or a lease kept us from opening the file: there is nothing to sleep
            // on.
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

    /// Another open file keeps us from a lock of this kind. Sleeps until that may have changed, or fails if it is time
    /// to give up.
    pub(crate) fn wait_for_change(&mut self, file: BorrowedFd<'_>, kind: LockKind) -> Result<(), Failure> {
        self.turns = 0;
        // Any holder, any kind of lock. If the file system cannot wait, poll instead. If it cannot lock, the next try
        // reports that.
        if matches!(self.until, Until::Forever) && sys::lock(file, kind).is_ok() {
            return Ok(());
        }
        let left = self.until.left()?;
        let shared = kind == LockKind::Exclusive && self.may_ask && matches!(is_free(file), Ok(true));
        // Beside a shared lock, the claim is stale. So is the claim of a dead process: its successor has not stamped
        // yet.
        let holder = if shared { None } else { holder(file) };
        if left == 0 {
            // Only a shared lock is worth a retry, since no process holds the name.
            let looks = match (shared, self.may_ask) {
                (true, _) => LOOKS_AT_SHARED,
                (false, true) => 0,
                (false, false) => LOOKS_AT_NOBODY, // it may be a shared lock
            };
            return self.look_again(looks, Failure::locked_by(holder.as_ref().map(Process::pid)));
        }
        if holder.is_some() {
            self.pauses = self.pauses.max(MAX_DOUBLINGS); // a holder stays: no short pauses
        }
        let pause = self.next_pause(left);
        match holder {
            Some(process) => process.sleep(pause),
            None => sys::sleep(pause),
        }
        Ok(())
    }

    /// The next pause while there is time, in nanoseconds: at most what is left.
    #[inline(always)]
    fn next_pause(&mut self, left: u64) -> u64 {
        let pause = FIRST_PAUSE << self.pauses.min(MAX_DOUBLINGS_WAITING);
        self.pauses = self.pauses.saturating_add(1);
        pause.min(left)
    }

    /// With no time left: sleeps if fewer than `looks` tries were made, or fails.
    #[inline(always)] // lets a program that never waits drop the clock
    fn look_again(&mut self, looks: u32, refused: Failure) -> Result<(), Failure> {
        if self.looks >= looks {
            return Err(refused);
        }
        sys::sleep(FIRST_PAUSE << self.looks.min(MAX_DOUBLINGS));
        self.looks += 1;
        Ok(())
    }
}

/// Steps 4 and 5, for either kind of lock: locks the file and returns its status. `Replaced` if the name does not lead
/// to it, locked or not. The file was then removed or replaced after we opened it, and the caller must open the name
/// again.
///
/// A shared lock is only a question. It is released at once, so it delays starters for an instant at most.
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
        // Even without the lock: if the holder is leaving, a loser must move on to the next file.
        let stat = place.verify(file)?;
        if locked {
            return Ok(stat);
        }
        backoff.wait_for_change(file, kind)?;
    }
}

/// Step 4. On SMB, where locks are mandatory, flock(2) fails with `EACCES` if another process has the lock: flock(2),
/// "CIFS details".
fn try_exclusive(file: BorrowedFd<'_>, may_ask: bool) -> Result<bool, Failure> {
    match sys::try_lock(file, LockKind::Exclusive) {
        Err(FORBIDDEN) if is_unreadable(file) || may_ask && matches!(is_free(file), Ok(true)) => Ok(false),
        result => result,
    }
}

/// A security module that forbids every lock gives the same answer. That is not contention.
const FORBIDDEN: Failure = Failure::of(Call::Flock, libc::EACCES);

/// Whether reads are refused. We opened the file for reading, so another process has a mandatory lock.
fn is_unreadable(file: BorrowedFd<'_>) -> bool {
    matches!(claim::read(file), Err(failure) if failure.errno() == libc::EACCES)
}

/// Whether the file is free: a shared lock succeeds.
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

/// The living process that the file names. Errors are dropped on purpose: contention is reported even if the holder is
/// not found.
fn holder(file: BorrowedFd<'_>) -> Option<Process> {
    let pid = claim::read(file).ok().flatten()?;
    Process::find(pid).ok().flatten()
}
