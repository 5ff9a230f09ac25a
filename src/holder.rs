//! A name from outside: find its holder, signal it, wait until it releases.

use crate::{
    claim,
    contention::{self, Backoff},
    error::{Error, Message},
    evidence::{self, Evidence},
    failure::{Failure, found},
    fd::{AsFd, OwnedFd},
    options::Wait,
    path::AsPath,
    pid::Pid,
    place::Place,
    process::Process,
    signal::Signal,
    sys::{self, LockKind, Stat},
};
use core::{fmt, time::Duration};

/// What [`probe`] saw. It may have changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There is no file.
    Absent,
    /// There is a file, and it is not locked.
    Free {
        /// The claim in the file: usually the process that died without releasing it. It is read after the lock was
        /// seen to be free, so it can also be a new holder that came in between.
        stale: Option<Pid>,
    },
    /// A process holds it.
    Held {
        /// The process that the file names, if it is alive and the kernel does not say that it lacks the lock.
        /// Otherwise the process that took the lock, if the kernel says that it still has it. Otherwise `None`.
        holder: Option<Pid>,
    },
}

impl State {
    /// The text that `Display` prints, in pieces: see [`Error::message`].
    #[must_use]
    pub fn message(self) -> Message {
        let text = match self {
            State::Absent => "no such file",
            State::Free { stale: None } => "not locked",
            State::Free { stale: Some(pid) } => return Message::about("not locked; left behind by process ", pid),
            State::Held { holder: None } => "locked by an unknown process",
            State::Held { holder: Some(pid) } => return Message::about("locked by process ", pid),
        };
        Message::text(text)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

/// Reads the claim in an open PID file: the number in its first line, 1..=2147483647, or `None` if there is none.
///
/// Reads at most 64 bytes from the head of the file and leaves the file offset alone. The claim does not show whether
/// that process holds the lock, or lives: call [`probe`] for that.
///
/// # Errors
/// [`Error::Sys`] if `pread` fails: `fd` is not open for reading, or is a pipe or a directory.
///
/// # Platform-specific behavior
/// Calls `pread`. Source: pread(2).
pub fn read_pid(fd: impl AsFd) -> Result<Option<Pid>, Error> {
    Ok(claim::read(fd.as_fd())?)
}

/// Reads the claim in the PID file at `path`, or returns `None` if there is no file or no valid claim. [`Pid::parse`]
/// says what is valid.
///
/// ```
/// use pidflock::{PidLock, read_pid_from};
/// # let path = std::env::temp_dir().join(format!("pidflock-example-read-{}", std::process::id()));
/// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
///
/// assert_eq!(read_pid_from(path)?, None);
/// let lock = PidLock::acquire(path)?;
/// assert_eq!(read_pid_from(path)?, Some(lock.pid()));
/// # Ok::<(), pidflock::Error>(())
/// ```
///
/// # Errors
/// - [`Error::InvalidPath`].
/// - [`Error::NotAPidFile`] for anything but a regular file. Does not wait for a FIFO.
/// - [`Error::AlreadyLocked`] while another process has a lease on the file: see
///   [`PidLock::acquire`](crate::PidLock::acquire).
/// - [`Error::Sys`] if `openat`, `fstat` or `pread` fails.
pub fn read_pid_from(path: impl AsPath) -> Result<Option<Pid>, Error> {
    let Some((file, _)) = open_regular(path.bytes())? else { return Ok(None) };
    Ok(claim::read(file.as_fd())?)
}

/// Finds out who holds the name. Never creates, writes or removes anything.
///
/// Asks with a shared lock, held for an instant. [`PidLock::acquire`](crate::PidLock::acquire) retries if it meets that
/// lock. The answer may be old when it arrives, and `Free` may carry the claim of a new holder. To act on the answer,
/// call [`acquire`](crate::PidLock::acquire) or [`signal`].
///
/// ```
/// use pidflock::{PidLock, State, probe};
/// # let path = std::env::temp_dir().join(format!("pidflock-example-probe-{}", std::process::id()));
/// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
///
/// assert_eq!(probe(path)?, State::Absent);
/// let lock = PidLock::acquire(path)?;
/// assert_eq!(probe(path)?, State::Held { holder: Some(lock.pid()) });
/// lock.disown(); // as if it had died
/// assert!(matches!(probe(path)?, State::Free { stale: Some(_) }));
/// # PidLock::acquire(path)?.release()?;
/// # Ok::<(), pidflock::Error>(())
/// ```
///
/// # Errors
/// Those of [`read_pid_from`], except that a lease gives [`State::Held`]. [`Error::Sys`] if `flock` fails.
/// [`Error::Replaced`] if the file was replaced a hundred times during the call.
///
/// # Platform-specific behavior
/// Calls `openat`, `fcntl` (to move a descriptor above 2), `flock`, `fstat`, `fstatat`, `pread` and `close`. To find
/// the holder, also `getpid`, `pidfd_open` and `ppoll` (`kill` without pidfds), and in /proc `getdents64`, `statx` and
/// `clock_gettime`. Between retries, `nanosleep`. What /proc does not show counts neither for the claim nor against it.
pub fn probe(path: impl AsPath) -> Result<State, Error> {
    let asked = match Asked::about(path.bytes(), Wait::Never) {
        Err(failure) if failure.is_contention() => return Ok(State::Held { holder: None }), // a lease
        result => result?,
    };
    let Some(asked) = asked else { return Ok(State::Absent) };
    let Some(refused) = asked.refused else { return Ok(State::Free { stale: claim::read(asked.file.as_fd())? }) };
    Ok(State::Held {
        holder: match Holder::of(asked) {
            Ok((found, _)) => Some(found.pid()),
            Err(failure) if failure.is_contention() => None,
            Err(_) => refused.holder(), // held all the same, and nothing contradicts the claim
        },
    })
}

/// Finds the processes that share the lock on the file at `path`, if /proc shows them. These are a holder and its
/// children, or the children that a dead holder left behind. Where [`probe`] names no holder, this may still find some.
///
/// Fills the buffer from its beginning and returns the number of processes, which may exceed the length of the buffer.
/// Use it to show which processes keep a name: the library signals none of them. It looks at the descriptors of all
/// processes, which takes milliseconds. It sees those of other users only with CAP_SYS_PTRACE.
///
/// ```
/// use pidflock::{PidLock, sharers};
/// # let path = std::env::temp_dir().join(format!("pidflock-example-sharers-{}", std::process::id()));
/// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
///
/// let lock = PidLock::acquire(path)?;
/// let mut buffer = [None; 8];
/// if sharers(path, &mut buffer)? == 1 {
///     assert_eq!(buffer[0], Some(lock.pid()));
/// }
/// # Ok::<(), pidflock::Error>(())
/// ```
///
/// # Errors
/// Those of [`read_pid_from`]. [`Error::Sys`] if a call on /proc fails, unless /proc denies access.
///
/// # Platform-specific behavior
/// Calls `openat`, `fcntl`, `fstat`, `fstatat`, `getpid`, `close`, and in /proc `getdents64`, `pread` and `statx`.
/// Finds none where there is no /proc.
pub fn sharers(path: impl AsPath, buffer: &mut [Option<Pid>]) -> Result<usize, Error> {
    let (mut room, mut count) = (buffer.iter_mut(), 0);
    let Some((file, stat)) = open_regular(path.bytes())? else { return Ok(0) };
    evidence::each_sharer(file.as_fd(), &stat, &mut |pid| {
        count += 1;
        if let Some(slot) = room.next() {
            *slot = Some(pid);
        }
    })?;
    Ok(count)
}

/// Waits until no process holds the name: the file is unlocked, or gone.
///
/// [`Wait`] says how it sleeps. It also waits for a successor that takes the name at once. To wait for one holder, call
/// [`Holder::wait`].
///
/// # Errors
/// [`Error::AlreadyLocked`] when the time is over. Those of [`probe`].
///
/// # Platform-specific behavior
/// Calls those of [`probe`]. [`Wait::Forever`] sleeps in `flock`, [`Wait::For`] in `ppoll` or `nanosleep`.
pub fn wait_released(path: impl AsPath, wait: Wait) -> Result<(), Error> {
    if let Some(asked) = Asked::about(path.bytes(), wait)? {
        asked.free()?;
    }
    Ok(())
}

/// Finds the process that an unlocked PID file names, if that process is alive and older than the stamp. It may have
/// written the stamp and then lost the lock without ending. That happens to a daemon that closes descriptors which it
/// did not open.
///
/// It is not the holder, so no function here signals it or waits for it. The result is never process 1, since each
/// container has one. It is `None` where no /proc says when a process started.
///
/// ```
/// use pidflock::{PidLock, survivor};
/// # let path = std::env::temp_dir().join(format!("pidflock-example-survivor-{}", std::process::id()));
/// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
///
/// let lock = PidLock::acquire(path)?;
/// let pid = lock.pid();
/// lock.disown(); // closes the descriptor and leaves the file
/// # #[cfg(target_os = "linux")]
/// assert_eq!(survivor(path)?, Some(pid));
/// # PidLock::acquire(path)?.release()?;
/// # Ok::<(), pidflock::Error>(())
/// ```
///
/// # Errors
/// [`Error::AlreadyLocked`] if a process holds the name. Those of [`probe`].
///
/// # Platform-specific behavior
/// Calls those of [`probe`]. In /proc, calls `openat`, `pread`, `clock_gettime` and `close`. Source: proc_pid_stat(5).
pub fn survivor(path: impl AsPath) -> Result<Option<Pid>, Error> {
    let Some(asked) = Asked::about(path.bytes(), Wait::Never)? else { return Ok(None) };
    let file = asked.free()?;
    let claim = claim::read(file.as_fd())?.filter(|pid| *pid != Pid::INIT);
    let Some(process) = claim.map_or(Ok(None), Process::find)? else { return Ok(None) };
    Ok(evidence::may_have_stamped(&process, file.as_fd())?.then_some(process.pid()))
}

/// Sends a signal to the process that holds the name, or to no process: [`Holder::find`] and [`Holder::signal`] in one.
///
/// Returns the process that it signalled.
///
/// ```
/// use pidflock::{Error, PidLock, Signal, signal};
/// # let path = std::env::temp_dir().join(format!("pidflock-example-signal-{}", std::process::id()));
/// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
///
/// assert_eq!(signal(path, Signal::HUP), Err(Error::NotLocked));
/// let lock = PidLock::acquire(path)?;
/// assert_eq!(signal(path, Signal::CHECK)?, lock.pid()); // only checks
/// # Ok::<(), pidflock::Error>(())
/// ```
///
/// # Errors
/// Those of [`Holder::find`] and [`Holder::signal`].
///
/// # Platform-specific behavior
/// Calls those of [`Holder::find`] and [`Holder::signal`]. Source: pidfd_open(2), pidfd_send_signal(2), kill(2).
pub fn signal(path: impl AsPath, signal: Signal) -> Result<Pid, Error> {
    let (holder, evidence) = Holder::look(path.bytes())?;
    holder.signal_on(Ok(evidence), signal)?;
    Ok(holder.pid())
}

/// One holder of a name, to signal it and to wait until it releases. Never its successor.
///
/// Keeps the file and the process open, so that a new file at the path, or a new process with the same PID, is never
/// taken for the old one. Drop and `exec` close both. A forked child has a copy that works as well.
///
/// ```no_run
/// use core::time::Duration;
/// use pidflock::{Error, Holder, Signal, Wait};
///
/// let holder = Holder::find("/run/demo/demo.pid")?;
/// holder.signal(Signal::TERM)?;
/// if let Err(Error::AlreadyLocked { .. }) = holder.wait(Wait::For(Duration::from_secs(10))) {
///     holder.signal(Signal::KILL)?; // the same process, never a successor
///     holder.wait(Wait::Forever)?;
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a holder that is found is neither signalled nor waited for"]
pub struct Holder {
    place: Place,
    file: OwnedFd,
    process: Process,
    /// Whether the file claims the process. If not, only the kernel names it, and the claim is ignored.
    is_claimed: bool,
    /// When the file was stamped, in nanoseconds of the wall clock.
    stamped: i64,
}

impl Holder {
    /// Finds the process that holds the name at `path`: the one that the file names, unless /proc shows that it does
    /// not have the lock. Then, or if the file names no living process, it is the one that took the lock, if /proc
    /// shows that it still has it. So this also finds a holder whose file another program overwrote.
    ///
    /// # Errors
    /// - [`Error::NotLocked`]: there is no file, or no process holds it.
    /// - [`Error::AlreadyLocked`] with no holder: the file is held, and neither the file nor /proc names the process.
    /// - [`Error::InvalidPath`], [`Error::NotAPidFile`], [`Error::Replaced`], [`Error::Sys`]: as for [`probe`].
    ///
    /// # Platform-specific behavior
    /// Calls those of [`probe`]. Keeps a pidfd where the kernel has them: pidfd_open(2).
    pub fn find(path: impl AsPath) -> Result<Holder, Error> {
        Ok(Holder::look(path.bytes())?.0)
    }

    fn look(path: &[u8]) -> Result<(Holder, Evidence), Failure> {
        let mut again = true;
        loop {
            match Holder::of(Asked::about(path, Wait::Never)?.ok_or(Failure::NOT_LOCKED)?) {
                Err(Failure::LOCKED_BY_UNKNOWN) if again => again = false, // the holder may have released meanwhile
                result => return result,
            }
        }
    }

    /// The holder of a file: the process that the file claims, unless the kernel says that it lacks the lock. Otherwise
    /// the one that the kernel names.
    fn of(asked: Asked) -> Result<(Holder, Evidence), Failure> {
        let Asked { place, file, refused } = asked;
        let claimed = refused.ok_or(Failure::NOT_LOCKED)?.holder();
        let (stat, stamped) = (sys::fstat(file.as_fd())?, sys::modified(file.as_fd())?);
        if let Some(pid) = claimed {
            if let Some(process) = Process::find(pid)? {
                let evidence = Evidence::find(&process, file.as_fd(), &stat)?;
                if evidence.has_lock != Some(false) {
                    return Ok((Holder { place, file, process, is_claimed: true, stamped }, evidence));
                }
            }
        }
        let taker = evidence::confirmed_taker(file.as_fd(), &stat)?;
        let process = taker.ok_or(Failure::LOCKED_BY_UNKNOWN)?;
        let evidence = Evidence::find(&process, file.as_fd(), &stat)?;
        Ok((Holder { place, file, process, is_claimed: false, stamped }, evidence))
    }

    /// The PID of the holder.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends a signal to this holder, or to no process. Signal 0 only checks.
    ///
    /// A recycled PID or a planted file must not cost another process its life. So the kernel must say that the holder
    /// has this very lock. Where the kernel says nothing, condition 4 applies. Immediately before the signal, this
    /// checks:
    ///
    /// 1. The file is locked, is the one at the path, has one link, and is not writable by everybody. It claims the
    ///    holder, if it did when the holder was found.
    /// 2. The holder has the file open with an exclusive lock, by `/proc/PID/fdinfo` of all its threads. If /proc
    ///    denies these, /proc/locks must name the holder as the process that took the lock, and the holder must be
    ///    older than the stamp. The same applies to a holder that closed its descriptor. `PID` is the number that this
    ///    /proc has for the holder: it may be mounted for another PID namespace.
    /// 3. The owner of the file is root, your effective user, or the real or saved user of the holder. So *a PID file
    ///    directs a signal only at a process that its owner could have signalled*. A user without an ID in this user
    ///    namespace is none of them.
    /// 4. If the kernel says nothing (no /proc, or a file system that hides its locks), the claim counts only if no
    ///    user other than root and you can write the file. One of these two owns it, and neither its group nor others
    ///    may write it.
    /// 5. The file is still locked, still claims the holder, and is still the one at the path.
    ///
    /// The signal goes through a pidfd, which never refers to another process, even if the PID is reused. No step waits
    /// for another file system.
    ///
    /// # Errors
    /// - [`Error::NotLocked`]: the holder has released the lock, or has died.
    /// - [`Error::AlreadyLocked`] with no holder: an unknown process has the lock, and this one does not.
    /// - [`Error::Replaced`]: the path leads to another file.
    /// - [`Error::NotAPidFile`]: the file has a second hard link, perhaps in another user's directory.
    /// - [`Error::Untrusted`]: condition 1, 3 or 4 does not hold.
    /// - [`Error::Sys`]: usually `NotPermitted` from `kill`: you may not signal the process.
    ///
    /// # Platform-specific behavior
    /// Calls `flock`, `pread`, `fstat`, `fstatat`, `geteuid`, `getpid`, `ppoll` and `pidfd_send_signal`. In /proc,
    /// calls `openat`, `getdents64`, `pread`, `fstat`, `statx`, `clock_gettime` and `close`. Without pidfds (before
    /// Linux 5.3, other systems, or forbidden by seccomp), calls `kill` right after the checks. Only Linux has such a
    /// /proc. On other systems condition 4 decides. Source: proc_pid_fdinfo(5), proc_locks(5), proc_pid_status(5),
    /// kill(2).
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let file = self.file.as_fd();
        Ok(self.signal_on(sys::fstat(file).and_then(|stat| Evidence::find(&self.process, file, &stat)), signal)?)
    }

    fn signal_on(&self, evidence: Result<Evidence, Failure>, signal: Signal) -> Result<(), Failure> {
        let checked = evidence.and_then(|evidence| self.check(evidence));
        if self.process.has_ended() {
            return Err(Failure::NOT_LOCKED); // /proc shows nothing of a dead process
        }
        let sent = match checked {
            // If the kernel lets you send it no signal at all, report that instead of the state of the file.
            Err(Failure::UNTRUSTED) => self.process.signal(Signal::CHECK).and(checked),
            _ => checked.and_then(|()| self.process.signal(signal)),
        };
        match sent {
            Err(failure) if failure.errno() == libc::ESRCH => Err(Failure::NOT_LOCKED),
            result => result,
        }
    }

    /// Waits until this holder has released the lock, or has died. A child that it leaves behind, or any other process
    /// that shares the open file, keeps the lock while it has the descriptor.
    ///
    /// A successor on the same file has another PID. In containers it can have the same PID: then a later stamp, after
    /// the holder's death, shows the successor.
    ///
    /// # Errors
    /// [`Error::AlreadyLocked`] when the time is over. [`Error::Sys`] if a call fails.
    ///
    /// # Platform-specific behavior
    /// Calls `flock`, `pread`, `fstat`, `clock_gettime`, `pidfd_open` or `kill`, and `close`. For a holder that the
    /// file does not name, also those of [`probe`] in /proc. Sleeps in `ppoll` or `nanosleep`, even with
    /// [`Wait::Forever`].
    pub fn wait(&self, wait: Wait) -> Result<(), Error> {
        Ok(self.wait_for_this_one(wait)?)
    }

    fn wait_for_this_one(&self, wait: Wait) -> Result<(), Failure> {
        // Not `Forever`: sleeping in flock(2) would queue behind the successors.
        let mut backoff = Backoff::new(if wait == Wait::Forever { Wait::For(Duration::MAX) } else { wait })?;
        while !contention::is_free(self.file.as_fd())? {
            if self.has_successor()? {
                return Ok(());
            }
            match backoff.wait_for_change(self.file.as_fd(), LockKind::Shared) {
                Err(failure) if failure.is_contention() => {
                    return Err(Failure::locked_by((!self.process.has_ended()).then(|| self.pid())));
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Whether another process has stamped the same file. It may have the same PID, such as the first process of a
    /// container. If the file never claimed this holder, whether the kernel names another one.
    fn has_successor(&self) -> Result<bool, Failure> {
        let file = self.file.as_fd();
        if !self.is_claimed {
            let stat = sys::fstat(file)?;
            let other = evidence::confirmed_taker(file, &stat)?.is_some_and(|taker| taker.pid() != self.pid());
            return Ok(other || Evidence::find(&self.process, file, &stat)?.has_lock == Some(false));
        }
        match claim::read(file)? {
            Some(claim) if claim != self.pid() => Ok(true),
            Some(_) if self.process.has_ended() => Ok(sys::modified(file)? != self.stamped),
            _ => Ok(false),
        }
    }

    /// Whether the file may direct a signal at the process now. Finding the evidence took time, so this checks the
    /// claim, the lock and the path after it.
    fn check(&self, evidence: Evidence) -> Result<(), Failure> {
        self.check_claim()?;
        let stat = self.place.verify(self.file.as_fd())?;
        if stat.links > 1 {
            return Err(Failure::NOT_A_PID_FILE); // perhaps a link to another user's file
        }
        if stat.is_writable_by_all() {
            return Err(Failure::UNTRUSTED);
        }
        let owner = evidence::known_owner(&stat)?;
        let is_root_or_us = owner == Some(0) || owner == Some(sys::geteuid());
        let owner_may_signal = is_root_or_us || evidence.users.iter().flatten().any(|user| owner == Some(*user));
        match evidence.has_lock {
            _ if !owner_may_signal => Err(Failure::UNTRUSTED),
            Some(false) => Err(Failure::LOCKED_BY_UNKNOWN),
            None if !self.is_claimed => Err(Failure::LOCKED_BY_UNKNOWN),
            // Only the claim is known. Then only root or we may have been able to write it.
            None if !is_root_or_us || stat.is_writable_by_others() => Err(Failure::UNTRUSTED),
            _ => Ok(()),
        }
    }

    /// Fails unless the file is locked and, if it claimed the process, still does.
    fn check_claim(&self) -> Result<(), Failure> {
        let file = self.file.as_fd();
        if contention::is_free(file)? || self.is_claimed && claim::read(file)? != Some(self.pid()) {
            return Err(Failure::NOT_LOCKED);
        }
        Ok(())
    }
}

/// A file, and whether another process has its lock.
struct Asked {
    place: Place,
    file: OwnedFd,
    /// The contention, if a process holds it.
    refused: Option<Failure>,
}

impl Asked {
    /// The file at the path, if there is one: as soon as no process holds it, or when the wait is over. Contention is an
    /// error only if a lease prevents opening the file.
    fn about(path: &[u8], wait: Wait) -> Result<Option<Asked>, Failure> {
        let mut backoff = Backoff::new(wait)?;
        let Some(place) = found(Place::open(path, false))? else { return Ok(None) };
        loop {
            let file = match found(place.open_existing(sys::READ)) {
                Ok(Some(file)) => file,
                Ok(None) => return Ok(None),
                Err(failure) => {
                    backoff.retry(failure)?;
                    continue;
                }
            };
            match found(contention::lock_and_verify(&place, file.as_fd(), LockKind::Shared, &mut backoff)) {
                Ok(Some(_)) => return Ok(Some(Asked { place, file, refused: None })),
                Ok(None) => return Ok(None), // some file systems find no file that is open and removed
                Err(failure) => match backoff.retry(failure) {
                    Err(failure) if failure.is_contention() => {
                        return Ok(Some(Asked { place, file, refused: Some(failure) }));
                    }
                    result => result?,
                },
            }
        }
    }

    /// The file, if no process holds it.
    fn free(self) -> Result<OwnedFd, Failure> {
        self.refused.map_or(Ok(self.file), Err)
    }
}

/// The file at the path, if there is one, and its status.
fn open_regular(path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Failure> {
    let Some(place) = found(Place::open(path, false))? else { return Ok(None) };
    let Some(file) = found(place.open_existing(sys::READ))? else { return Ok(None) };
    let stat = sys::fstat(file.as_fd())?;
    if stat.is_regular() { Ok(Some((file, stat))) } else { Err(Failure::NOT_A_PID_FILE) }
}
