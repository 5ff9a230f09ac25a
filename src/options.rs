//! What a caller can choose, with the defaults.

use core::time::Duration;

/// How long to wait for a name that another process holds.
///
/// # A wait that can be cancelled
/// A signal handler does not end a wait, since a signal that comes just before the sleep would be missed. Wait in turns
/// instead, and look at a flag between them. A turn costs a few system calls, and still wakes at once when the holder dies.
///
/// ```
/// use core::{sync::atomic::{AtomicBool, Ordering::Relaxed}, time::Duration};
/// use pidflock::{Error, PidLock, Wait};
///
/// /// Set by the handler of SIGTERM: by yours, or by that of the crate signal-hook.
/// static CANCELLED: AtomicBool = AtomicBool::new(false);
///
/// /// Waits for the name; `None` if the wait was cancelled.
/// fn acquire(path: &str) -> Result<Option<PidLock>, Error> {
///     let turn = PidLock::options().wait(Wait::For(Duration::from_millis(100)));
///     while !CANCELLED.load(Relaxed) {
///         match turn.acquire(path) {
///             Err(Error::AlreadyLocked { .. }) => {}
///             result => return result.map(Some),
///         }
///     }
///     Ok(None)
/// }
/// # extern "C" fn cancel(_: libc::c_int) {
/// #     CANCELLED.store(true, Relaxed);
/// # }
/// # let path = std::env::temp_dir().join(format!("pidflock-example-cancelled-{}", std::process::id()));
/// # let path = path.to_str().ok_or(pidflock::Error::InvalidPath)?;
/// # // SAFETY: the handler stores into an atomic.
/// # unsafe { libc::signal(libc::SIGTERM, cancel as *const () as libc::sighandler_t) };
/// # let holder = PidLock::acquire(path)?;
/// # let later = |work: Box<dyn FnOnce() + Send>| std::thread::spawn(move || {
/// #     std::thread::sleep(Duration::from_millis(250));
/// #     work();
/// # });
/// # let sender = later(Box::new(|| assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGTERM) }, 0)));
/// # assert!(acquire(path)?.is_none(), "the signal cancels the wait");
/// # assert!(CANCELLED.swap(false, Relaxed) && sender.join().is_ok());
/// # let leaver = later(Box::new(|| drop(holder)));
/// # assert!(acquire(path)?.is_some(), "without it the wait goes on until the name is free");
/// # assert!(leaver.join().is_ok());
/// # Ok::<(), pidflock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Not at all.
    ///
    /// What looks like a holder is looked at again, for a few milliseconds, if it may be none: see
    /// [`PidLock::acquire`](crate::PidLock::acquire).
    #[default]
    Never,
    /// Until the name is free. Sleeps in flock(2) itself; a signal handler that runs meanwhile does not end it.
    ///
    /// Where the file system knows no flock that waits, as virtiofs, it looks again at growing intervals instead.
    ///
    /// The kernel wakes the sleeper when the file that it queued on is let go. If that file is removed by somebody who
    /// does not take the lock, while its holder lives on, the sleeper stays with that holder.
    Forever,
    /// At most for this long, on the monotonic clock, never less, and over by no more than one scheduling delay; but while
    /// somebody has a *shared* lock, at least for the tenth of a second that [`PidLock::acquire`](crate::PidLock::acquire)
    /// names.
    ///
    /// Sleeps on the holder's pidfd, and so wakes at once when the holder dies; for a holder that lets go without
    /// dying it looks again at growing intervals of at most 50 milliseconds. Where the kernel has no pidfd (before
    /// Linux 5.3, other systems, or forbidden by seccomp) it only does the latter. A time too large for the clock is
    /// `Forever`, with the intervals.
    For(Duration),
}

/// What to do differently from [`PidLock::acquire`](crate::PidLock::acquire). Made by
/// [`PidLock::options`](crate::PidLock::options), ends in [`Options::acquire`] or [`Options::adopt`].
///
/// ```no_run
/// use pidflock::{PidLock, Wait};
/// use core::time::Duration;
///
/// let lock = PidLock::options().mode(0o640).wait(Wait::For(Duration::from_secs(5))).acquire("/run/demo/demo.pid")?;
/// # drop(lock); Ok::<(), pidflock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "options do nothing until `acquire`"]
pub struct Options {
    /// None for the default, from which the umask takes away.
    pub(crate) mode: Option<u16>,
    pub(crate) create_parents: bool,
    pub(crate) sync: bool,
    pub(crate) remove_on_release: bool,
    pub(crate) wait: Wait,
}

impl Options {
    pub(crate) const DEFAULT: Options =
        Options { mode: None, create_parents: true, sync: true, remove_on_release: true, wait: Wait::Never };

    /// The permission bits of the file: exactly these, whatever the umask is, also for a file that was there. Bits beyond
    /// `0o777` are ignored. Source: fchmod(2).
    ///
    /// The file of another user keeps its own, and so does every file where the file system has no such modes. Without
    /// this, a file that is created has `0o644` less the umask, and a file that is there keeps its own. Parent directories
    /// are made with `0o755` less the umask in any case: if the umask is 077 and others are to read the file, make the
    /// directory before.
    ///
    /// Anybody who may open the file, even only to read it, can lock it, and so keep the name from you: omit the bits
    /// that strangers do not need. [`signal`](crate::signal()) does not trust a file that everybody can write.
    pub const fn mode(self, mode: u32) -> Options {
        Options { mode: Some((mode & 0o777) as u16), ..self }
    }

    /// Whether missing parent directories are made, with `0o755` less the umask: by default yes. They stay. Without,
    /// a missing one is [`Error::Sys`](crate::Error::Sys) with `NotFound` from `openat`. Source: mkdir(2).
    pub const fn create_parents(self, create: bool) -> Options {
        Options { create_parents: create, ..self }
    }

    /// Whether the stamp is flushed with fsync(2): by default yes. Without it a power cut may leave an empty file or
    /// an older claim behind. No lock is left either way.
    pub const fn sync(self, sync: bool) -> Options {
        Options { sync, ..self }
    }

    /// Whether a release removes the file (the default) or leaves it behind, empty: for a directory that the daemon
    /// may not write, and beside programs that lock the file without comparing it with the path, as flock(1) does. Then a
    /// failed acquire leaves it behind, too, also if it has created it.
    pub const fn remove_on_release(self, remove: bool) -> Options {
        Options { remove_on_release: remove, ..self }
    }

    /// How long to wait for a name that another process holds: by default [`Wait::Never`].
    pub const fn wait(self, wait: Wait) -> Options {
        Options { wait, ..self }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::DEFAULT
    }
}
