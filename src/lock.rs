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
    AsPath, Options, Wait,
    contention::{self, Patience},
    error::{Call, Errno, Error},
    fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd},
    path::Seal,
    pid::{Pid, STAMP_ROOM},
    place::{self, Place},
    sys::{self, FileId, Kind, Status},
};
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// A name that this process owns, until the value is released or dropped, or the process dies.
///
/// The kernel ties the lock to the *open file*, which forked children share and which goes on over `exec` only if close-
/// on-exec is cleared (it is set). It is let go when the last descriptor of it is closed.
///
/// - **drop** does what [`release`](PidLock::release) does and ignores the result.
/// - **fork**: the child has a copy of the lock that, dropped, only closes: it never frees or removes what is its
///   parent's. With [`restamp`](PidLock::restamp) the child becomes the owner, and the parent's copy only closes.
/// - **exec**: closed, unless [`hand_over`](PidLock::hand_over) has kept it open.
/// - **threads**: `Send` and `Sync`. Every operation makes system calls and nothing else, and so may be used between
///   `fork` and `exec`.
///
/// Source: flock(2), fork(2), execve(2), close(2).
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
    ///   `ReadOnlyFileSystem`, `NoSpace` or `QuotaExceeded` (the stamp does not fit), `FileTooLarge` (`RLIMIT_FSIZE`),
    ///   `ProcessDescriptors` (no descriptor is free), `NoLock` (a file system without locks).
    ///
    /// A failed acquire leaves no lock, no descriptor and no file that was not there. Only parent directories stay, and
    /// an empty file where the kernel refuses every lock or gives a file two identities; a file left behind by a dead
    /// holder may be gone.
    ///
    /// # Platform-specific behavior
    /// - On the way that goes well, calls `openat`, `mkdirat` for missing parents, `fcntl` to move a descriptor above 2,
    ///   `flock`, `fstat`, `fstatat`, `getpid`, `pwrite`, `ftruncate` where there was a longer text, and `fsync`.
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

    pub(crate) fn acquire_with(path: &[u8], options: Options) -> Result<PidLock, Error> {
        let mut patience = Patience::new(options.wait)?;
        let place = Place::open(path, options.create_parents)?; // 1, 2
        loop {
            match open_and_lock(&place, options.mode, &mut patience) {
                Ok((file, created, status)) => {
                    return PidLock::take(file, place, status, options, Some(created || options.remove_on_release));
                }
                Err(error) => patience.again(error)?,
            }
        }
    }

    /// Takes over a lock from the program that this process was before `exec`, or from whoever passed the descriptor
    /// on: the other end of [`hand_over`](PidLock::hand_over). Believes nothing unchecked.
    ///
    /// `fd` must be an open regular file with one link, to which `path` leads. If it does not have the lock, it takes it
    /// now, without waiting. Close-on-exec is set again and this process is stamped into the file. The lock is never
    /// let go meanwhile. From now on it is like one that was acquired with the default options.
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
    /// # Errors
    /// - [`Error::Replaced`]: `path` leads to another file, or to none.
    /// - [`Error::NotAPidFile`]: `fd` is a pipe, a socket, a directory, a file with more links.
    /// - [`Error::AlreadyLocked`]: another open file holds the lock.
    /// - [`Error::InvalidPath`], and [`Error::Sys`]: with `BadDescriptor` where `fd` is not open; with `Invalid` from
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
        PidLock::adopt_at(fd, path.bytes(Seal))
    }

    fn adopt_at(fd: OwnedFd, path: &[u8]) -> Result<PidLock, Error> {
        let checked = Place::open(path, false).and_then(|place| {
            place.identify(fd.as_fd())?;
            if sys::is_read_write(fd.as_fd())? {
                Ok(place)
            } else {
                Err(Error::Sys { call: Call::Fcntl, errno: Errno::Invalid })
            }
        });
        let place = match checked {
            Ok(place) => place,
            Err(error) => {
                let _stays_open = fd.into_raw_fd();
                return Err(error);
            }
        };
        let file = place::above_standard_streams(fd)?;
        sys::set_close_on_exec(file.as_fd(), true)?;
        let status = lock_again(&place, file.as_fd())?;
        PidLock::take(file, place, status, Options::DEFAULT, None)
    }

    /// Steps 6 and 7 on a file that is locked. `undo`: what a failure does, to remove the file or to empty it, and to let
    /// go; nothing where the lock is not ours to undo, since another process may share it.
    fn take(
        file: OwnedFd,
        place: Place,
        status: Status,
        options: Options,
        undo: Option<bool>,
    ) -> Result<PidLock, Error> {
        let taken = PidLock {
            file: Some(file),
            place,
            id: status.id,
            stamped: AtomicI32::new(0),
            sync: options.sync,
            remove_on_release: options.remove_on_release,
        };
        match taken.stamp(status.size) {
            Ok(()) => Ok(taken),
            Err(error) => {
                if let Some(remove) = undo {
                    let _the_first_error_counts = taken.vacate(taken.as_fd(), remove);
                }
                taken.disown();
                Err(error)
            }
        }
    }

    /// The process that this lock last wrote into the file: the one that acquired or adopted it, or, after
    /// [`restamp`](PidLock::restamp), the one that did that. In a forked child it is the parent until then.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::new(self.stamped.load(Relaxed)).unwrap_or(Pid::INIT) // always a `Pid`: `take` has stamped it
    }

    /// Makes this process the owner and writes its PID into the file. For a child, after `fork`.
    ///
    /// Before an `exec`, [`hand_over`](PidLock::hand_over) must follow, since the descriptor is close-on-exec: a process
    /// that the file names, but that does not have the lock, cannot be signalled through the file.
    ///
    /// The parent's copy, from then on, only closes, whichever way it goes. The parent must not release *while* the
    /// child restamps: the two share one lock, which therefore cannot keep them apart. Let the parent
    /// [`disown`](PidLock::disown).
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
    /// [`acquire`](PidLock::acquire). Source: fork(2), flock(2).
    pub fn restamp(&self) -> Result<(), Error> {
        let status = lock_again(&self.place, self.as_fd())?;
        self.stamp(status.size)
    }

    /// Whether the path still leads to the locked file. If not, somebody has removed or replaced it without taking the
    /// lock, and another process may own the name by now.
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
        self.place.names(self.id)
    }

    /// Lets go of the name: removes the file (or empties it: [`Options::remove_on_release`]), unlocks it, closes it.
    ///
    /// Does only what is this process's own to do. In a forked child, or once a child has taken over with `restamp`, it
    /// closes and nothing else. If the path leads to another file, that file stays as it is. If the file cannot be
    /// removed (privileges dropped, read-only file system), it is emptied, and the lock is let go all the same.
    ///
    /// # Errors
    /// [`Error::Sys`] with the first call that failed. Whatever it is, the descriptor of this process is closed: there
    /// is nothing to do again.
    ///
    /// # Platform-specific behavior
    /// Calls `getpid`, `pread`, `fstatat`, `unlinkat` or `ftruncate`, `flock`, `close`. Source: unlink(2), flock(2).
    pub fn release(mut self) -> Result<(), Error> {
        self.let_go()
    }

    /// Closes this process's descriptors, and nothing more: the file and the lock stay with the child that shares
    /// them. Without such a child, the lock is gone, and the file stays behind. Cannot fail, and calls `close` alone.
    pub fn disown(mut self) {
        self.file = None;
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
        self.file.take().ok_or(Error::Sys { call: Call::Fcntl, errno: Errno::BadDescriptor })
    }

    /// Step 6: one write of the PID over all that was there, so that no reader ever sees a part of either; then cut off
    /// what was longer; then step 7.
    ///
    /// Tempting and wrong: to truncate first, which shows readers an empty file where there was a PID; to write without
    /// the padding, which shows them the new digits and then the old ones.
    fn stamp(&self, size: u64) -> Result<(), Error> {
        let file = self.as_fd();
        let pid = Pid::new(sys::getpid()).ok_or(Error::Sys { call: Call::Getpid, errno: Errno::NoProcess })?;
        let (text, length) = pid.stamp();
        let mut old = usize::try_from(size).unwrap_or(usize::MAX);
        if old > STAMP_ROOM {
            sys::truncate(file, 0)?;
            old = 0;
        }
        write_whole(file, text.get(..length.max(old)).unwrap_or_default())?;
        self.stamped.store(pid.get(), Relaxed);
        if old > length {
            sys::truncate(file, u8::try_from(length).unwrap_or(u8::MAX))?;
        }
        if self.sync { sys::sync(file) } else { Ok(()) }
    }

    /// What release and drop do.
    fn let_go(&mut self) -> Result<(), Error> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let pid = sys::getpid();
        if pid != self.stamped.load(Relaxed) {
            return Ok(()); // a forked child: LOCK_UN would free its parent's lock
        }
        let ours = match place::claim(file.as_fd())? {
            Some(claim) => claim.get() == pid, // or a child took over
            // Perhaps a child took over and let go already: then another may have the lock by now.
            None => sys::try_lock(file.as_fd(), Kind::Exclusive)?,
        };
        if ours { self.vacate(file.as_fd(), self.remove_on_release) } else { Ok(()) }
    }

    /// Removes or empties the file that is locked and ours, and unlocks it: who has inherited a copy of the descriptor,
    /// between fork and exec, would otherwise keep the lock.
    fn vacate(&self, file: BorrowedFd<'_>, remove: bool) -> Result<(), Error> {
        let removed = if remove { self.place.remove(self.id) } else { Ok(()) };
        let emptied = if remove && removed.is_ok() { Ok(()) } else { sys::truncate(file, 0) };
        let unlocked = sys::unlock(file);
        removed.and(emptied).and(unlocked)
    }
}

/// Lets go, as [`PidLock::release`] does, and ignores the result.
impl Drop for PidLock {
    fn drop(&mut self) {
        let _nobody_to_tell = self.let_go();
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

/// Steps 3 to 5: the locked file, whether we made it, and its status; `Replaced` if it is to be done again.
fn open_and_lock(place: &Place, mode: u16, patience: &mut Patience) -> Result<(OwnedFd, bool, Status), Error> {
    let (file, created) = place.open_or_create(mode)?;
    match lock(place, file.as_fd(), patience) {
        Ok(status) => Ok((file, created, status)),
        Err(error) => {
            if created {
                place.withdraw(file.as_fd());
            } else if !matches!(error, Error::AlreadyLocked { .. }) {
                let _the_first_error_counts = sys::unlock(file.as_fd()); // a sibling before its exec has a copy
            }
            Err(error)
        }
    }
}

/// Steps 4 and 5: the status of the file, which is locked, ours by name, and without a second link.
fn lock(place: &Place, file: BorrowedFd<'_>, patience: &mut Patience) -> Result<Status, Error> {
    match contention::contend(place, file, Kind::Exclusive, patience)? {
        status if status.links > 1 => Err(Error::NotAPidFile), // a stamp would be written under the other name, too
        status => Ok(status),
    }
}

/// Steps 4 and 5 on a file that should be locked already: then it stays so.
fn lock_again(place: &Place, file: BorrowedFd<'_>) -> Result<Status, Error> {
    lock(place, file, &mut Patience::new(Wait::Never)?)
}

/// Writes all of it at the head of the file, or leaves the file empty if it can only write a part.
#[inline(never)] // smaller by 80 bytes
fn write_whole(file: BorrowedFd<'_>, text: &[u8]) -> Result<(), Error> {
    let mut done = 0;
    while let Some(rest) = text.get(done..).filter(|rest| !rest.is_empty()) {
        // A short write: the next one says why.
        let error = match sys::write_at(file, rest, u8::try_from(done).unwrap_or(u8::MAX)) {
            Ok(0) => Error::Sys { call: Call::Pwrite, errno: Errno::NoSpace },
            Ok(written) => {
                done += written;
                continue;
            }
            Err(error) => error,
        };
        if done > 0 {
            sys::truncate(file, 0)?;
        }
        return Err(error);
    }
    Ok(())
}
