//! `PidLock`: the protocol, step by step.
//!
//! 1. split the path into directory and name; 2. open the directory and keep it open; 3. open the file, or create it;
//! 4. `flock`; 5. check that the name still leads to the locked file; 6. stamp; 7. `fsync`.
//!
//! Step 5 closes the race with removal. A holder removes the file while it holds the lock. A process that opened the
//! file before that then locks an *orphaned inode*, a file without a name. Meanwhile the next starter creates and locks
//! a new file: two holders.
//!
//! Three simpler protocols are wrong. Removing the file after unlocking it deletes the successor's file. Truncating the
//! file on opening erases the holder's claim. Stamping before locking lets a loser write.

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

/// A name that this process owns until the value is released or dropped, or the process dies.
///
/// The kernel ties the lock to the *open file*. Forked children share that file. It stays open over `exec` only if
/// close-on-exec is cleared (this crate sets it). The kernel drops the lock when the last descriptor of the file is
/// closed.
///
/// - **drop** releases the lock, as [`release`](PidLock::release) does, and ignores the result.
///   `let _ = PidLock::acquire(path)?;` drops at once, and neither rustc nor clippy warns. Bind the lock to a name:
///   `let _lock = ...`.
/// - **fork**: the child has a copy of the lock. Dropping the copy only closes it: it never unlocks or removes what the
///   parent holds. After [`restamp`](PidLock::restamp) in the child, the child is the owner and the parent's copy only
///   closes.
/// - **exec** closes the lock, unless [`hand_over`](PidLock::hand_over) kept it open.
/// - **threads**: `Send` and `Sync`. Every operation makes system calls and nothing else, so you can call it between
///   `fork` and `exec`.
///
/// Source: flock(2), fork(2), execve(2), close(2).
///
/// A daemon that drops its privileges can first give the file to its new user:
/// `std::os::unix::fs::fchown(lock.as_fd(), ..)`. The lock stays. To remove the file at the end, that user must also
/// own the directory.
///
#[doc = include_str!("../doc/life.svg")]
///
/// Use it in the same way without `std`:
///
/// ```no_run
/// #![no_std]
/// # extern crate std; // for its panic handler; a program without std brings one
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
    /// None only after a method that consumes the lock took the file, so that `Drop` releases nothing.
    file: Option<OwnedFd>,
    place: Place,
    id: FileId,
    /// The `Pid` that this lock last wrote: only that process releases.
    stamped: AtomicI32,
    sync: bool,
    remove_on_release: bool,
}

impl PidLock {
    /// Acquires the name with the default options, without waiting.
    ///
    /// Creates missing parent directories (0755), opens the file or creates it (0644), locks it, and writes the PID of
    /// this process and a newline. Between system calls, the file reads as one whole PID or as nothing, to every
    /// reader.
    ///
    /// Linux does not order read(2) against a concurrent write(2). A reader that overlaps the one `pwrite` that
    /// replaces an old claim can see digits of both.
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
    /// If the file does not name a live holder, `acquire` retries for 3 ms. While only a *shared* lock is held, as
    /// [`probe`](crate::probe) and file-system cleaners take for an instant, it retries for 100 ms. While another
    /// process has a *lease* on the file (fcntl(2)), as file servers take for their clients, opening the file fails.
    /// `acquire` retries for 3 ms then, and at intervals if it waits.
    ///
    /// # Errors
    /// - [`Error::AlreadyLocked`]: another open file holds the lock, in this process or in another.
    /// - [`Error::InvalidPath`], [`Error::NotAPidFile`].
    /// - [`Error::Replaced`]: the file was removed or replaced a hundred times in a row while `acquire` locked it, or
    ///   the file system gives one file two identities.
    /// - [`Error::Sys`]: a call failed. Common answers are `PermissionDenied` (you may not write the directory or
    ///   file), `ReadOnlyFilesystem`, `StorageFull` or `QuotaExceeded` (the stamp does not fit), `FileTooLarge`
    ///   (`RLIMIT_FSIZE`), `TooManyOpenFiles` (no descriptor is free), `NoLock` (a file system without locks).
    ///
    /// A failed acquire leaves no lock, no descriptor and no new file, with these exceptions:
    ///
    /// - Parent directories stay.
    /// - An empty file stays with [`remove_on_release(false)`](Options::remove_on_release), since another process may
    ///   be waiting for it.
    /// - An empty file stays if the kernel refuses every lock or gives a file two identities.
    /// - A file left behind by a dead holder may be gone.
    ///
    /// # Platform-specific behavior
    /// - On success, calls `openat`, `mkdirat` (for missing parents), `fcntl` (to move a descriptor above 2), `flock`,
    ///   `fstat`, `fstatat`, `fchmod` (if you set a mode), `getpid`, `pwrite`, `ftruncate` (if the old content was
    ///   longer), and `fsync`.
    /// - If the lock is held, also calls `pread`, `pidfd_open` and `ppoll` (`kill` without pidfds), and `nanosleep`.
    /// - To undo, calls `unlinkat` or `ftruncate`. In every case, calls `close`.
    ///
    /// Writing beyond `RLIMIT_FSIZE` raises `SIGXFSZ`, which kills a process that does not ignore it (setrlimit(2)). A
    /// daemon that may run under such a limit must ignore the signal first.
    #[doc(alias = "pidfile_open")]
    #[doc(alias = "lockf")]
    pub fn acquire(path: impl AsPath) -> Result<PidLock, Error> {
        PidLock::options().acquire(path)
    }

    /// Returns the default options, to change and then [`acquire`](Options::acquire) with. `const`, so that a program
    /// can keep its options in a constant.
    pub const fn options() -> Options {
        Options::DEFAULT
    }

    /// Takes over a lock from the program that this process ran before `exec`, or from another process that passed the
    /// descriptor on. The counterpart of [`hand_over`](PidLock::hand_over). Verifies the descriptor before it trusts
    /// it.
    ///
    /// `fd` must be an open regular file with one link, and `path` must lead to it. If `fd` does not have the lock,
    /// `adopt` takes the lock now, without waiting. `adopt` sets close-on-exec again and stamps the file with the PID
    /// of this process. It never releases the lock in between. The result is like a lock acquired with the default
    /// options. For other options, call [`Options::adopt`].
    ///
    /// ```
    /// use pidflock::PidLock;
    /// # let path = std::env::temp_dir().join(format!("pidflock-example-adopt-{}", std::process::id()));
    /// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
    ///
    /// let lock = PidLock::acquire(path)?;
    /// let fd = lock.hand_over()?;
    /// // ... exec; the next program image gets the number of `fd`, for example as an argument ...
    /// let lock = PidLock::adopt(fd, path)?;
    /// lock.release()?;
    /// # Ok::<(), pidflock::Error>(())
    /// ```
    ///
    /// # Under `pidflock run`
    /// A program started by `pidflock run` already has the lock, and no other process can take it. To take the same
    /// name itself, the program must adopt that lock. `run` sets two environment variables: `PIDFLOCK_FD` is the number
    /// of the descriptor, and `PIDFLOCK_PID` is the process that it is meant for, as in sd_listen_fds(3). The library
    /// never reads the environment.
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
    ///     // SAFETY: `run` left it open for this process, and nothing else here owns it.
    ///     Some(fd) => PidLock::adopt(unsafe { OwnedFd::from_raw_fd(fd) }, path)?,
    ///     None => PidLock::acquire(path)?,
    /// };
    /// # lock.release() }
    /// ```
    ///
    /// # Errors
    /// - [`Error::Replaced`]: `path` leads to another file, or to none.
    /// - [`Error::NotAPidFile`]: `fd` is a pipe, a socket, a directory, or a file with more than one link.
    /// - [`Error::AlreadyLocked`]: another open file holds the lock.
    /// - [`Error::InvalidPath`].
    /// - [`Error::Sys`]: `BadDescriptor` if `fd` is not open. `InvalidInput` from `fcntl` if `fd` was not opened for
    ///   reading and writing, or was opened for appending. `NotFound` if the directory does not exist.
    ///
    /// `adopt` first checks that `fd` is the file that `path` leads to, open for reading and writing. If this check
    /// fails, `fd` stays open and unchanged. After that, an error closes `fd`, which releases the lock if this was its
    /// last descriptor.
    ///
    /// # Platform-specific behavior
    /// Calls `openat`, `fstat`, `fstatat`, `fcntl`, `flock`, `getpid`, `pwrite`, `ftruncate`, `fsync` and `close`. If
    /// the lock is held, also those of [`acquire`](PidLock::acquire). Source: fcntl(2), flock(2), execve(2).
    pub fn adopt(fd: OwnedFd, path: impl AsPath) -> Result<PidLock, Error> {
        PidLock::options().adopt(fd, path)
    }

    /// Steps 6 and 7 on a locked file. On failure, undoes what `undo` says.
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

    /// The process that this lock last wrote into the file: the one that acquired or adopted the lock, or that called
    /// [`restamp`](PidLock::restamp) last. In a forked child, that is the parent until the child calls `restamp`.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::new(self.stamped.load(Relaxed)).unwrap_or(Pid::MAX) // always a `Pid`: `from_locked` stamped it
    }

    /// Makes this process the owner and writes its PID into the file. Call it in a child, after `fork`.
    ///
    /// The owner may call it repeatedly. Each call touches the file (its mtime). Supervisors that watch the file, such
    /// as finit, take that for "ready again" after a SIGHUP. So call it after a reload if your init system expects
    /// that.
    ///
    /// Before `exec`, also call [`hand_over`](PidLock::hand_over), since the descriptor is close-on-exec. Otherwise the
    /// file names a process that does not have the lock, and that process cannot be signalled through the file.
    ///
    /// After `restamp`, the parent's copy only closes, whether dropped or released: it checks the claim, and asks for
    /// the lock, before it touches anything. It cannot detect two cases, so call [`disown`](PidLock::disown) in the
    /// parent:
    ///
    /// - The parent must not release *while* the child restamps: the two share one lock, which cannot keep them apart.
    /// - If both have the same PID, each in its PID namespace, the claim cannot keep them apart.
    ///
    /// # Errors
    /// - [`Error::Replaced`]: the path no longer names the locked file. The parent may have released it.
    /// - [`Error::AlreadyLocked`]: the lock was released in between, and another process took it.
    /// - [`Error::NotAPidFile`]: the file now has a second hard link.
    /// - [`Error::Sys`]: a call failed. If the write failed, the owner is unchanged, and the file names that owner or
    ///   no process. If only a later call failed (`ftruncate` after longer content, or `fsync`), this process is the
    ///   owner.
    ///
    /// # Platform-specific behavior
    /// Calls `flock`, `fstat`, `fstatat`, `getpid`, `pwrite`, `ftruncate` and `fsync`. If the lock is held, also those
    /// of [`acquire`](PidLock::acquire). Never asks for a shared lock, which would undo the lock of a process that
    /// shares the open file. Source: fork(2), flock(2).
    pub fn restamp(&self) -> Result<(), Error> {
        let stat = lock_again(&self.place, self.as_fd())?;
        Ok(self.stamp(stat.size)?)
    }

    /// Whether the name, in the directory that `acquire` or `adopt` opened, still leads to the locked file. If not,
    /// another process removed or replaced the file without taking the lock. The name may have another owner by now.
    ///
    /// It cannot detect that the *directory* was renamed, or that another directory was mounted over it. Another
    /// process can own the same path then.
    ///
    /// ```
    /// use pidflock::PidLock;
    /// # let path = std::env::temp_dir().join(format!("pidflock-example-is-current-{}", std::process::id()));
    /// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
    ///
    /// let lock = PidLock::acquire(path)?;
    /// assert!(lock.is_current()?);
    /// # let _ =
    /// std::fs::remove_file(path); // as a careless cleaner does
    /// assert!(!lock.is_current()?);
    /// # Ok::<(), pidflock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Sys`] if `fstatat` fails.
    ///
    /// # Platform-specific behavior
    /// Calls `fstatat`, relative to the directory that `acquire` or `adopt` opened. Source: stat(2), inode(7).
    pub fn is_current(&self) -> Result<bool, Error> {
        Ok(self.place.leads_to(self.id)?)
    }

    /// Releases the name: removes the file (or empties it: [`Options::remove_on_release`]), unlocks it, and closes it.
    ///
    /// Touches nothing that belongs to another process. In a forked child, after a child took over with `restamp`, or
    /// if another process has the lock by now, it only closes the descriptor. If the path leads to another file, it
    /// leaves that file alone. If it cannot remove the file (privileges dropped, read-only file system), it empties the
    /// file and still releases the lock.
    ///
    /// A worker's child can get the PID of a dead holder while it shares its lock, and then passes for the holder. Let
    /// workers [`disown`](PidLock::disown) their copy.
    ///
    /// # Errors
    /// [`Error::Sys`] with the first call that failed. This process's descriptor is closed in any case: there is
    /// nothing to retry.
    ///
    /// # Platform-specific behavior
    /// Calls `getpid`, `pread`, `flock`, `fstatat`, `unlinkat` or `ftruncate`, `flock`, `close`. Source: unlink(2),
    /// flock(2).
    pub fn release(mut self) -> Result<(), Error> {
        Ok(self.release_if_ours()?)
    }

    /// Closes this process's descriptors and nothing else. The file and the lock stay with the child that shares them.
    /// Without such a child, the lock is gone and the file stays behind. Cannot fail. Calls only `close`.
    pub fn disown(mut self) {
        self.file = None;
    }

    /// Closes this process's copy of a lock that another process owns, and releases the name if that was the last copy.
    /// For a process that outlives the owner, such as the guard of `pidflock run`.
    ///
    /// Other processes that share the lock keep it, and `wait` limits how long this waits for them. It then removes or
    /// empties the file ([`Options::remove_on_release`]), if three conditions hold:
    ///
    /// - No process has the lock any more.
    /// - No other process has taken the name since.
    /// - The file still names the process that this lock last wrote.
    ///
    /// Removing the file through the copy would be simpler, and wrong: another process may still share it, and would
    /// hold a file without a name. So this opens the file again and locks it by the new descriptor.
    ///
    /// # Errors
    /// [`Error::NotAPidFile`]: the path leads to something else by now, which stays as it is. [`Error::Sys`] with the
    /// first call that failed. The copy is closed in any case.
    ///
    /// # Platform-specific behavior
    /// Calls `close`, `openat`, `flock`, `fstat`, `fstatat`, `pread`, `unlinkat` or `ftruncate`. If the lock is held,
    /// also those of [`acquire`](PidLock::acquire).
    pub fn release_if_last(mut self, wait: Wait) -> Result<(), Error> {
        self.file = None;
        Ok(self.release_afresh(wait)?)
    }

    /// Opens and locks the file again. Removes or empties it if it is still the one that this lock stamped.
    fn release_afresh(&self, wait: Wait) -> Result<(), Failure> {
        let Some(file) = found(self.place.open_existing(sys::READ_WRITE))? else { return Ok(()) };
        let file = file.as_fd();
        // Not a single try: waiters ask with shared locks for an instant. A try that meets one would leave the file
        // behind.
        let stat = match lock(&self.place, file, &mut Backoff::new(wait)?) {
            Err(failure) if failure.is_contention() || failure == Failure::REPLACED => return Ok(()), // not ours
            result => result?,
        };
        if stat.id == self.id && claim::read(file)? == Some(self.pid()) {
            self.clear_and_unlock(file, self.remove_on_release)
        } else {
            sys::unlock(file)
        }
    }

    /// Gives the locked descriptor away and clears close-on-exec, so that it survives `exec`. The file keeps naming
    /// this process, which keeps its PID over `exec`. The next program image takes over with [`adopt`](PidLock::adopt).
    /// Or it just holds the name for as long as it lives, as under `pidflock run`.
    ///
    /// The descriptor's number is 3 or above. Every child that is started before `adopt` inherits the descriptor, and
    /// with it the lock.
    ///
    /// # Errors
    /// [`Error::Sys`] if `fcntl` fails. The name is then released.
    ///
    /// # Platform-specific behavior
    /// Calls `fcntl` with `F_SETFD`. Source: fcntl(2), execve(2).
    pub fn hand_over(mut self) -> Result<OwnedFd, Error> {
        sys::set_close_on_exec(self.as_fd(), false)?;
        // Always there: only the methods that consume the lock take the file.
        Ok(self.file.take().ok_or(Failure::of(Call::Fcntl, libc::EBADF))?)
    }

    /// Steps 6 and 7.
    fn stamp(&self, size: u64) -> Result<(), Failure> {
        let file = self.as_fd();
        let pid = Pid::new(sys::getpid()).ok_or(Failure::of(Call::Getpid, libc::ESRCH))?;
        let length = claim::stamp(file, pid, size)?;
        self.stamped.store(pid.get(), Relaxed); // the file names this process, even if a later call fails
        claim::trim(file, length, size)?;
        if self.sync { flush(file) } else { Ok(()) }
    }

    /// Common to `release` and `drop`.
    fn release_if_ours(&mut self) -> Result<(), Failure> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let pid = sys::getpid();
        if pid != self.stamped.load(Relaxed) {
            return Ok(()); // a forked child: LOCK_UN would release its parent's lock
        }
        if claim::read(file.as_fd())?.is_some_and(|claim| claim.get() != pid) {
            return Ok(()); // a child took over
        }
        // Or it took over and released. Another process may have the lock by now, with this PID in another PID
        // namespace.
        if !sys::try_lock(file.as_fd(), LockKind::Exclusive)? {
            return Ok(());
        }
        self.clear_and_unlock(file.as_fd(), self.remove_on_release)
    }

    /// Removes or empties the file, which is locked and ours, and unlocks it. Without the explicit unlock, a copy of
    /// the descriptor in a child between fork and exec would keep the lock.
    fn clear_and_unlock(&self, file: BorrowedFd<'_>, remove: bool) -> Result<(), Failure> {
        let removed = if remove { self.place.remove(self.id) } else { Ok(()) };
        let erased = if remove && removed.is_ok() { Ok(()) } else { claim::erase(file) };
        let _close_lets_go_too = sys::unlock(file);
        removed.and(erased)
    }
}

impl Options {
    /// Acquires the name with these options. See [`PidLock::acquire`].
    ///
    /// # Errors
    /// Those of [`PidLock::acquire`]. [`Error::AlreadyLocked`] after the wait. [`Error::Sys`] if `clock_gettime` fails.
    ///
    /// # Platform-specific behavior
    /// Calls those of [`PidLock::acquire`], and `clock_gettime` for a wait that ends.
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

    /// Takes over a lock with these options. See [`PidLock::adopt`]. [`sync`](Options::sync) and
    /// [`remove_on_release`](Options::remove_on_release) apply from then on, and [`mode`](Options::mode) sets the
    /// permissions. The other options are for opening the file and have no effect here.
    ///
    /// A lock does not carry its options over `exec`. Give both programs the same ones.
    ///
    /// # Errors
    /// Those of [`PidLock::adopt`].
    ///
    /// # Platform-specific behavior
    /// Calls those of [`PidLock::adopt`], and `fchmod` if you set a mode.
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

/// Releases the lock, as [`PidLock::release`] does, and ignores the result.
impl Drop for PidLock {
    fn drop(&mut self) {
        let _nobody_to_tell = self.release_if_ours();
    }
}

/// Lends the locked file, for example to [`read_pid`](crate::read_pid).
impl AsFd for PidLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.file {
            Some(file) => file.as_fd(),
            None => sys::CWD, // never: only the methods that consume the lock take the file. No file call accepts this.
        }
    }
}

impl AsRawFd for PidLock {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Steps 3 to 5: the locked file and its status. `Replaced` if the caller must repeat them.
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

/// Steps 4 and 5: the status of the file, which is then locked, at the path, and without a second link.
fn lock(place: &Place, file: BorrowedFd<'_>, backoff: &mut Backoff) -> Result<Stat, Failure> {
    match contention::lock_and_verify(place, file, LockKind::Exclusive, backoff)? {
        stat if stat.links > 1 => Err(Failure::NOT_A_PID_FILE), // a stamp would also write to the other name
        stat => Ok(stat),
    }
}

/// Steps 4 and 5 on a file that should be locked already, and then stays locked. Another process may share it.
fn lock_again(place: &Place, file: BorrowedFd<'_>) -> Result<Stat, Failure> {
    lock(place, file, &mut Backoff::for_shared_file())
}

/// The place of a file that another program opened. Fails if the path does not lead to it, or if it was not opened as
/// this crate opens it.
fn open_verified(file: BorrowedFd<'_>, path: &[u8]) -> Result<Place, Failure> {
    let place = Place::open(path, false)?;
    place.verify(file)?;
    if !sys::is_read_write(file)? {
        return Err(Failure::of(Call::Fcntl, libc::EINVAL));
    }
    Ok(place)
}

/// The mode of a new file, before the umask.
const DEFAULT_MODE: u16 = 0o644;

/// Sets the mode, if the caller chose one. The file may lack it: the umask applied, or the file was already there.
fn set_mode(file: BorrowedFd<'_>, stat: &Stat, mode: Option<u16>) -> Result<(), Failure> {
    match mode {
        Some(mode) if !stat.has_mode(mode) => match sys::fchmod(file, mode) {
            // Another user's file, or a file system without such modes, such as vfat.
            Err(failure) if matches!(failure.errno(), libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(()),
            result => result,
        },
        _ => Ok(()),
    }
}

/// Step 7. These errors mean that the file system has nothing to flush. That is success.
fn flush(file: BorrowedFd<'_>) -> Result<(), Failure> {
    match sys::sync(file) {
        Err(failure) if matches!(failure.errno(), libc::EINVAL | libc::EROFS | libc::ENOSYS | libc::EOPNOTSUPP) => {
            Ok(())
        }
        result => result,
    }
}
