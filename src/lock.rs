//! `PidLock`: the protocol, step by step.
//!
//! 1. cut the path into directory and name; 2. open the directory, and keep it; 3. open the file, or create it;
//! 4. `flock`; 5. make sure that the name still leads to the locked file; 6. stamp; 7. `fsync`.
//!
//! Step 5 is the heart. A holder removes the file while it holds the lock, so whoever has opened the file before that
//! locks, a moment later, a file without a name (an *orphan*), while the next starter creates and locks a new one: two
//! holders. What looks like a simpler way and is not: to remove the file after letting go deletes the successor's; to
//! truncate on opening wipes the holder's claim; to lock after the stamp lets a loser write.

use crate::{
    claim,
    contention::{self, Backoff},
    error::{Call, Error},
    failure::{Failure, found},
    fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd},
    options::{Options, Wait},
    path::AsPath,
    pid::Pid,
    place::{Opened, Place},
    sys::{self, FileId, LockKind, Stat},
};
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// A name that this process owns, until the value is released or dropped, or the process dies.
///
/// The kernel ties the lock to the *open file*, which forked children share and which goes on over `exec` only if close-
/// on-exec is cleared (it is set). It is let go when the last descriptor of it is closed.
///
/// - **drop** does what [`release`](PidLock::release) does and ignores the result. `let _ = PidLock::acquire(path)?;` drops
///   at once, of which neither rustc nor clippy warns. Bind the lock to a name: `let _lock = ...`.
/// - **fork**: the child has a copy of the lock that, dropped, only closes: it never frees or removes what is its
///   parent's. With [`restamp`](PidLock::restamp) the child becomes the owner, and the parent's copy only closes.
/// - **exec**: closed, unless [`hand_over`](PidLock::hand_over) has kept it open.
/// - **threads**: `Send` and `Sync`. Every operation makes system calls and nothing else, and so may be used between
///   `fork` and `exec`.
///
/// Source: flock(2), fork(2), execve(2), close(2).
///
/// A daemon that drops its privileges can give the file to its new user before: `std::os::unix::fs::fchown(lock.as_fd(), ..)`.
/// The lock stays. That user must also own the directory to remove the file at the end.
///
#[doc = include_str!("../doc/life.svg")]
///
/// Without `std` it is used in the same way:
///
/// ```no_run
/// #![no_std]
/// # extern crate std; // here for its panic handler; a program without std has one of its own
/// use pidflock::{Error, PidLock};
///
/// fn serve() -> Result<(), Error> {
///     let lock = PidLock::acquire(c"/run/demo/demo.pid")?; // or "...", or b"..."
///     // ... serve ...
///     lock.release()
/// }
/// # fn main() {}
/// ```
#[derive(Debug)]
#[must_use = "a lock that is dropped is released"]
#[doc(alias = "flock")]
#[doc(alias = "pidfile")]
pub struct PidLock {
    /// None only while the value is being taken apart, so that `Drop` finds nothing to let go.
    file: Option<OwnedFd>,
    place: Place,
    id: FileId,
    /// The `Pid` that this lock last wrote: the process that may let go.
    stamped: AtomicI32,
    sync: bool,
    remove_on_release: bool,
}

impl PidLock {
    /// Takes the name, without waiting, with the default options.
    ///
    /// Makes missing parent directories (0755), opens the file or creates it (0644), locks it, and writes the PID of
    /// this process and a newline. At every instant, to every reader, the file reads as one whole PID or as nothing.
    ///
    /// (Linux copies out of a file while it copies into it. A reader in the very nanoseconds in which a claim is written
    /// over another may see some digits of each; between system calls nobody does.)
    ///
    /// ```
    /// use pidflock::{Error, PidLock};
    /// # let path = std::env::temp_dir().join(format!("pidflock-example-acquire-{}", std::process::id()));
    /// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
    ///
    /// let lock = PidLock::acquire(path)?;
    /// let second = PidLock::acquire(path); // refused, also in the same process
    /// assert_eq!(second.map(drop), Err(Error::AlreadyLocked { holder: Some(lock.pid()) }));
    /// lock.release()?;
    /// # Ok::<(), pidflock::Error>(())
    /// ```
    ///
    /// A lock that is held is looked at again, for 3 milliseconds, if the file does not name its holder, and for 0.1
    /// seconds while it is only a *shared* lock, as [`probe`](crate::probe) and file-system cleaners take for an
    /// instant. While another process has a *lease* on the file (fcntl(2), as file servers take them for their clients),
    /// nobody can open it: that is looked at again for 3 milliseconds, too, and in a wait at intervals.
    ///
    /// # Errors
    /// - [`Error::AlreadyLocked`]: another open file holds the lock, in this process or in another.
    /// - [`Error::InvalidPath`], [`Error::NotAPidFile`].
    /// - [`Error::Replaced`]: a hundred times in a row the file was removed or replaced while we locked it, or the file
    ///   system gives one file two identities.
    /// - [`Error::Sys`]: a call failed. Commonly `PermissionDenied` (the directory or file is not yours to write),
    ///   `ReadOnlyFilesystem`, `StorageFull` or `QuotaExceeded` (the stamp does not fit), `FileTooLarge` (`RLIMIT_FSIZE`),
    ///   `TooManyOpenFiles` (no descriptor is free), `NoLock` (a file system without locks).
    ///
    /// A failed acquire leaves no lock, no descriptor and no file that was not there. Only parent directories stay; an
    /// empty file with [`remove_on_release(false)`](Options::remove_on_release), since another may be waiting for it; and an
    /// empty file where the kernel refuses every lock or gives a file two identities. A file left behind by a dead holder
    /// may be gone.
    ///
    /// # Platform-specific behavior
    /// - On the way that goes well, calls `openat`, `mkdirat` for missing parents, `fcntl` to move a descriptor above 2,
    ///   `flock`, `fstat`, `fstatat`, `fchmod` where a mode was asked for, `getpid`, `pwrite`, `ftruncate` where there was a
    ///   longer text, and `fsync`.
    /// - Beside a holder, `pread`, `pidfd_open` and `ppoll`, or `kill` where there are no pidfds, and `nanosleep`.
    /// - To undo, `unlinkat` or `ftruncate`. And everywhere `close`.
    ///
    /// Writing beyond `RLIMIT_FSIZE` raises `SIGXFSZ`, which kills a process that does not ignore it (setrlimit(2)): a
    /// daemon that may run under such a limit ignores it first.
    #[doc(alias = "pidfile_open")]
    #[doc(alias = "lockf")]
    pub fn acquire(path: impl AsPath) -> Result<PidLock, Error> {
        PidLock::options().acquire(path)
    }

    /// The default options, to change and then [`acquire`](Options::acquire) with. `const`, so that a program can have
    /// its own in a constant.
    pub const fn options() -> Options {
        Options::DEFAULT
    }

    /// Takes over a lock from the program that this process was before `exec`, or from whoever passed the descriptor
    /// on: the other end of [`hand_over`](PidLock::hand_over). Believes nothing unchecked.
    ///
    /// `fd` must be an open regular file with one link, to which `path` leads. If it does not have the lock, it takes it
    /// now, without waiting. Close-on-exec is set again and this process is stamped into the file. The lock is never
    /// let go meanwhile. From now on it is like one that was acquired with the default options; with others, call
    /// [`Options::adopt`].
    ///
    /// ```
    /// use pidflock::PidLock;
    /// # let path = std::env::temp_dir().join(format!("pidflock-example-adopt-{}", std::process::id()));
    /// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
    ///
    /// let lock = PidLock::acquire(path)?;
    /// let fd = lock.hand_over()?;
    /// // ... exec; the next program image knows the number of `fd` from its arguments, say ...
    /// let lock = PidLock::adopt(fd, path)?;
    /// lock.release()?;
    /// # Ok::<(), pidflock::Error>(())
    /// ```
    ///
    /// # Under `pidflock run`
    /// A program that `pidflock run` has started has the lock, and nothing else could take it. If the program takes the
    /// same name itself, it must adopt that lock. `run` says which descriptor it is in the environment: `PIDFLOCK_FD` is
    /// its number, and `PIDFLOCK_PID` the process for which that is meant, as for sd_listen_fds(3). Nothing here reads the
    /// environment by itself.
    ///
    /// ```no_run
    /// # #[cfg(feature = "std")] fn example() -> Result<(), pidflock::Error> {
    /// use pidflock::{FromRawFd, OwnedFd, PidLock, RawFd};
    ///
    /// fn number(name: &str) -> Option<RawFd> {
    ///     std::env::var(name).ok()?.parse().ok()
    /// }
    ///
    /// let path = "/run/demo/demo.pid";
    /// let meant_for_us = number("PIDFLOCK_PID") == i32::try_from(std::process::id()).ok();
    /// let lock = match number("PIDFLOCK_FD").filter(|_| meant_for_us) {
    ///     // SAFETY: `run` has left it open for this process, and nothing here has taken it before.
    ///     Some(fd) => PidLock::adopt(unsafe { OwnedFd::from_raw_fd(fd) }, path)?,
    ///     None => PidLock::acquire(path)?,
    /// };
    /// # lock.release() }
    /// ```
    ///
    /// # Errors
    /// - [`Error::Replaced`]: `path` leads to another file, or to none.
    /// - [`Error::NotAPidFile`]: `fd` is a pipe, a socket, a directory, a file with more links.
    /// - [`Error::AlreadyLocked`]: another open file holds the lock.
    /// - [`Error::InvalidPath`], and [`Error::Sys`]: with `BadDescriptor` where `fd` is not open; with `InvalidInput` from
    ///   `fcntl` where it was not opened for reading and writing, or for appending; with `NotFound` where there is no such
    ///   directory.
    ///
    /// If `fd` turns out not to be the file that `path` leads to, open for reading and writing, it is not ours to close,
    /// and stays open as it was; else an error closes it, which lets the lock go if this was the last descriptor of it.
    ///
    /// # Platform-specific behavior
    /// Calls `openat`, `fstat`, `fstatat`, `fcntl`, `flock`, `getpid`, `pwrite`, `ftruncate`, `fsync` and `close`; beside a
    /// holder those of [`acquire`](PidLock::acquire). Source: fcntl(2), flock(2), execve(2).
    pub fn adopt(fd: OwnedFd, path: impl AsPath) -> Result<PidLock, Error> {
        PidLock::options().adopt(fd, path)
    }

    /// Steps 6 and 7 on a file that is locked. If they fail, undoes what is ours to undo.
    fn from_locked(file: OwnedFd, place: Place, stat: Stat, options: Options, undo: Undo) -> Result<PidLock, Failure> {
        let mut lock = PidLock {
            file: Some(file),
            place,
            id: stat.id,
            stamped: AtomicI32::new(0),
            sync: options.sync,
            remove_on_release: options.remove_on_release,
        };
        let stamped = set_mode(lock.as_fd(), &stat, options.mode).and_then(|()| lock.stamp(stat.size));
        let Err(failure) = stamped else { return Ok(lock) };
        if undo != Undo::Nothing {
            let _the_first_error_counts = lock.clear_and_unlock(lock.as_fd(), undo == Undo::Remove);
        }
        lock.file = None;
        Err(failure)
    }

    /// The process that this lock last wrote into the file: the one that acquired or adopted it, or, after
    /// [`restamp`](PidLock::restamp), the one that did that. In a forked child it is the parent until then.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::new(self.stamped.load(Relaxed)).unwrap_or(Pid::MAX) // always a `Pid`: `from_locked` has stamped it
    }

    /// Makes this process the owner and writes its PID into the file. For a child, after `fork`.
    ///
    /// The owner may call it again and again, and each time touches the file (its mtime). Supervisors that watch the file,
    /// as finit does, take that for "ready again" after a SIGHUP.
    ///
    /// Before an `exec`, [`hand_over`](PidLock::hand_over) must follow, since the descriptor is close-on-exec: a process
    /// that the file names, but that does not have the lock, cannot be signalled through the file.
    ///
    /// The parent's copy, from then on, only closes, whichever way it goes: it looks at the claim, and asks for the lock,
    /// before it touches anything. Two cases escape it, so let the parent [`disown`](PidLock::disown):
    ///
    /// - It must not release *while* the child restamps: the two share one lock, which cannot keep them apart.
    /// - If both have the same PID, each in a PID namespace of its own, the claim cannot keep them apart.
    ///
    /// A process that only *touches* the file, as an init system may ask for after a reload, calls this as well.
    ///
    /// # Errors
    /// - [`Error::Replaced`]: the path no longer names the locked file; the parent may have released it.
    /// - [`Error::AlreadyLocked`]: the lock was let go meanwhile, and another process has taken it.
    /// - [`Error::NotAPidFile`]: the file has got a second hard link.
    /// - [`Error::Sys`]: a call failed. If the write failed, the owner is who it was, and the file names that process or
    ///   nobody; if only what follows it did, `ftruncate` where there was a longer text, or `fsync`, this process is the
    ///   owner.
    ///
    /// # Platform-specific behavior
    /// Calls `flock`, `fstat`, `fstatat`, `getpid`, `pwrite`, `ftruncate` and `fsync`; beside a holder those of
    /// [`acquire`](PidLock::acquire). Never asks for a shared lock, which would undo that of a process that shares the open
    /// file. Source: fork(2), flock(2).
    pub fn restamp(&self) -> Result<(), Error> {
        let stat = lock_again(&self.place, self.as_fd())?;
        Ok(self.stamp(stat.size)?)
    }

    /// Whether the name, in the directory that was opened at the beginning, still leads to the locked file. If not, somebody
    /// has removed or replaced it without taking the lock, and another process may own the name by now.
    ///
    /// It does not see that the *directory* was renamed, or that another was mounted over it. Then another process can own
    /// the same path.
    ///
    /// ```
    /// use pidflock::PidLock;
    /// # let path = std::env::temp_dir().join(format!("pidflock-example-is-current-{}", std::process::id()));
    /// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
    ///
    /// let lock = PidLock::acquire(path)?;
    /// assert!(lock.is_current()?);
    /// # let _ =
    /// std::fs::remove_file(path); // by a careless cleaner, say
    /// assert!(!lock.is_current()?);
    /// # Ok::<(), pidflock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Sys`] if `fstatat` fails.
    ///
    /// # Platform-specific behavior
    /// Calls `fstatat`, relative to the directory that was opened at the beginning. Source: stat(2), inode(7).
    pub fn is_current(&self) -> Result<bool, Error> {
        Ok(self.place.leads_to(self.id)?)
    }

    /// Lets go of the name: removes the file (or empties it: [`Options::remove_on_release`]), unlocks it, closes it.
    ///
    /// Does only what is this process's own to do. In a forked child, once a child has taken over with `restamp`, or if
    /// another process has the lock by now, it closes and nothing else. If the path leads to another file, that file stays
    /// as it is. If the file cannot be removed (privileges dropped, read-only file system), it is emptied, and the lock is
    /// let go all the same.
    ///
    /// A child of a worker can get the number of the dead holder, and shares its lock. It passes for the holder, so workers
    /// [`disown`](PidLock::disown) their copy.
    ///
    /// # Errors
    /// [`Error::Sys`] with the first call that failed. Whatever it is, the descriptor of this process is closed: there
    /// is nothing to do again.
    ///
    /// # Platform-specific behavior
    /// Calls `getpid`, `pread`, `flock`, `fstatat`, `unlinkat` or `ftruncate`, `flock`, `close`. Source: unlink(2), flock(2).
    pub fn release(mut self) -> Result<(), Error> {
        Ok(self.release_if_ours()?)
    }

    /// Closes this process's descriptors, and nothing more: the file and the lock stay with the child that shares
    /// them. Without such a child, the lock is gone, and the file stays behind. Cannot fail, and calls `close` alone.
    pub fn disown(mut self) {
        self.file = None;
    }

    /// Closes this process's copy of a lock that another process owns, and releases the name if that was the last copy:
    /// for a process that outlives the owner, as the guard of `pidflock run` does.
    ///
    /// Others that share the lock keep it. If none does any more when this time is over, and nobody else has taken the name
    /// since, and the file still names the process that this lock last wrote, the file is removed, or emptied:
    /// [`Options::remove_on_release`].
    ///
    /// What looks simpler and is not: to remove the file through the copy. Another process may still share it, and then
    /// holds a file without a name. So the file is opened again, and locked by that.
    ///
    /// # Errors
    /// [`Error::NotAPidFile`]: the path leads to something else by now, which stays as it is. [`Error::Sys`] with the first
    /// call that failed. In any case, the copy is closed.
    ///
    /// # Platform-specific behavior
    /// Calls `close`, `openat`, `flock`, `fstat`, `fstatat`, `pread`, `unlinkat` or `ftruncate`; beside others that have the
    /// lock those of [`acquire`](PidLock::acquire).
    pub fn release_if_last(mut self, wait: Wait) -> Result<(), Error> {
        self.file = None;
        Ok(self.release_afresh(wait)?)
    }

    /// Opens and locks the file again, and removes or empties it if it is still the one that this lock stamped.
    fn release_afresh(&self, wait: Wait) -> Result<(), Failure> {
        let Some(file) = found(self.place.open_existing(sys::READ_WRITE))? else { return Ok(()) };
        let file = file.as_fd();
        // Whoever waits for the name asks with shared locks, and would otherwise have the file left behind.
        let stat = match lock(&self.place, file, &mut Backoff::new(wait)?) {
            Err(failure) if failure.is_contention() || failure == Failure::REPLACED => return Ok(()), // another's
            result => result?,
        };
        if stat.id == self.id && claim::read(file)? == Some(self.pid()) {
            self.clear_and_unlock(file, self.remove_on_release)
        } else {
            sys::unlock(file)
        }
    }

    /// Gives the locked descriptor away, to survive `exec`: close-on-exec is cleared. The file goes on naming this
    /// process, which keeps its PID over `exec`. The next program image takes over with [`adopt`](PidLock::adopt), or
    /// just holds the name for as long as it lives, as under `pidflock run`.
    ///
    /// The descriptor's number is 3 or above. Every child that is started without `adopt` inherits it, and with it the
    /// lock.
    ///
    /// # Errors
    /// [`Error::Sys`] if `fcntl` fails; then the name is released.
    ///
    /// # Platform-specific behavior
    /// Calls `fcntl` with `F_SETFD`. Source: fcntl(2), execve(2).
    pub fn hand_over(mut self) -> Result<OwnedFd, Error> {
        sys::set_close_on_exec(self.as_fd(), false)?;
        // There is always a file: only the methods that consume the lock take it.
        Ok(self.file.take().ok_or(Failure::of(Call::Fcntl, libc::EBADF))?)
    }

    /// Steps 6 and 7.
    fn stamp(&self, size: u64) -> Result<(), Failure> {
        let file = self.as_fd();
        let pid = Pid::new(sys::getpid()).ok_or(Failure::of(Call::Getpid, libc::ESRCH))?;
        let length = claim::stamp(file, pid, size)?;
        self.stamped.store(pid.get(), Relaxed); // from here on the file names this process, whatever follows
        claim::trim(file, length, size)?;
        if self.sync { flush(file) } else { Ok(()) }
    }

    /// What release and drop do.
    fn release_if_ours(&mut self) -> Result<(), Failure> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let pid = sys::getpid();
        if pid != self.stamped.load(Relaxed) {
            return Ok(()); // a forked child: LOCK_UN would free its parent's lock
        }
        if claim::read(file.as_fd())?.is_some_and(|claim| claim.get() != pid) {
            return Ok(()); // a child took over
        }
        // Or it took over and released, and another may have the lock by now, with the same number in another PID namespace.
        if !sys::try_lock(file.as_fd(), LockKind::Exclusive)? {
            return Ok(());
        }
        self.clear_and_unlock(file.as_fd(), self.remove_on_release)
    }

    /// Removes or empties the file, which is locked and ours, and unlocks it. Without the unlocking, a copy of the
    /// descriptor in a child between fork and exec would keep the lock.
    fn clear_and_unlock(&self, file: BorrowedFd<'_>, remove: bool) -> Result<(), Failure> {
        let removed = if remove { self.place.remove(self.id) } else { Ok(()) };
        let erased = if remove && removed.is_ok() { Ok(()) } else { claim::erase(file) };
        let _close_lets_go_too = sys::unlock(file);
        removed.and(erased)
    }
}

impl Options {
    /// Takes the name, as [`PidLock::acquire`] does, with these options.
    ///
    /// # Errors
    /// Those of [`PidLock::acquire`]; [`Error::AlreadyLocked`] after the wait; [`Error::Sys`] if `clock_gettime` fails.
    ///
    /// # Platform-specific behavior
    /// Calls those of [`PidLock::acquire`], and for a wait that ends `clock_gettime`.
    pub fn acquire(self, path: impl AsPath) -> Result<PidLock, Error> {
        Ok(self.acquire_bytes(path.bytes())?)
    }

    fn acquire_bytes(self, path: &[u8]) -> Result<PidLock, Failure> {
        let mut backoff = Backoff::new(self.wait)?;
        let place = Place::open(path, self.create_parents)?; // 1, 2
        loop {
            match open_and_lock(&place, self, &mut backoff) {
                Ok((file, stat)) => {
                    let undo = if self.remove_on_release { Undo::Remove } else { Undo::Erase };
                    return PidLock::from_locked(file, place, stat, self, undo);
                }
                Err(failure) => backoff.retry(failure)?,
            }
        }
    }

    /// Takes over a lock, as [`PidLock::adopt`] does. From then on these options hold: whether the stamp is flushed, and
    /// whether a release removes the file. The others are for a file that is yet to be opened, and do nothing here.
    ///
    /// A lock does not carry its options over `exec`. Give the same ones to both programs.
    ///
    /// # Errors
    /// Those of [`PidLock::adopt`].
    ///
    /// # Platform-specific behavior
    /// Calls those of [`PidLock::adopt`].
    pub fn adopt(self, fd: OwnedFd, path: impl AsPath) -> Result<PidLock, Error> {
        Ok(self.adopt_bytes(fd, path.bytes())?)
    }

    fn adopt_bytes(self, fd: OwnedFd, path: &[u8]) -> Result<PidLock, Failure> {
        let place = match open_verified(fd.as_fd(), path) {
            Ok(place) => place,
            Err(failure) => {
                let _stays_open = fd.into_raw_fd();
                return Err(failure);
            }
        };
        let file = sys::above_standard_streams(fd)?;
        sys::set_close_on_exec(file.as_fd(), true)?;
        let stat = lock_again(&place, file.as_fd())?;
        PidLock::from_locked(file, place, stat, self, Undo::Nothing)
    }
}

/// What a failed stamp undoes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Undo {
    /// Removes the file, and unlocks it.
    Remove,
    /// Empties the file, and unlocks it.
    Erase,
    /// Nothing: another process may share the lock.
    Nothing,
}

/// Lets go, as [`PidLock::release`] does, and ignores the result.
impl Drop for PidLock {
    fn drop(&mut self) {
        let _nobody_to_tell = self.release_if_ours();
    }
}

/// Lends the locked file, to [`read_pid`](crate::read_pid) for example.
impl AsFd for PidLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.file {
            Some(file) => file.as_fd(),
            None => sys::CWD, // cannot be: only the methods that consume the lock take it. No file call accepts this.
        }
    }
}

impl AsRawFd for PidLock {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Steps 3 to 5: the locked file and its status; `Replaced` if the steps are to be done again.
fn open_and_lock(place: &Place, options: Options, backoff: &mut Backoff) -> Result<(OwnedFd, Stat), Failure> {
    let Opened { file, created } = place.open_or_create(options.mode.unwrap_or(DEFAULT_MODE))?;
    let failure = match lock(place, file.as_fd(), backoff) {
        Ok(stat) => return Ok((file, stat)),
        Err(failure) => failure,
    };
    if created && options.remove_on_release {
        place.remove_unused(file.as_fd());
    } else if !failure.is_contention() {
        let _the_first_error_counts = sys::unlock(file.as_fd()); // a child between fork and exec may have a copy
    }
    Err(failure)
}

/// Steps 4 and 5: the status of the file, which is locked, ours by name, and without a second link.
fn lock(place: &Place, file: BorrowedFd<'_>, backoff: &mut Backoff) -> Result<Stat, Failure> {
    match contention::lock_and_verify(place, file, LockKind::Exclusive, backoff)? {
        stat if stat.links > 1 => Err(Failure::NOT_A_PID_FILE), // a stamp would be written under the other name, too
        stat => Ok(stat),
    }
}

/// Steps 4 and 5 on a file that should be locked already: then it stays so. Another process may share it.
fn lock_again(place: &Place, file: BorrowedFd<'_>) -> Result<Stat, Failure> {
    lock(place, file, &mut Backoff::for_shared_file())
}

/// The place of a file that somebody else has opened; an error if the path does not lead to it, or if it was not opened
/// as we would have opened it.
fn open_verified(file: BorrowedFd<'_>, path: &[u8]) -> Result<Place, Failure> {
    let place = Place::open(path, false)?;
    place.verify(file)?;
    if !sys::is_read_write(file)? {
        return Err(Failure::of(Call::Fcntl, libc::EINVAL));
    }
    Ok(place)
}

/// What a new file has at most.
const DEFAULT_MODE: u16 = 0o644;

/// The mode that was asked for, if one was: the umask has taken away from it, or the file was there.
fn set_mode(file: BorrowedFd<'_>, stat: &Stat, mode: Option<u16>) -> Result<(), Failure> {
    match mode {
        Some(mode) if !stat.has_mode(mode) => match sys::fchmod(file, mode) {
            // Another user's file, or a file system that has no such modes: vfat.
            Err(failure) if matches!(failure.errno(), libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(()),
            result => result,
        },
        _ => Ok(()),
    }
}

/// Step 7. These answers mean that the file system has nothing to flush, and that is as good as done.
fn flush(file: BorrowedFd<'_>) -> Result<(), Failure> {
    match sys::sync(file) {
        Err(failure) if matches!(failure.errno(), libc::EINVAL | libc::EROFS | libc::ENOSYS | libc::EOPNOTSUPP) => {
            Ok(())
        }
        result => result,
    }
}
