//! What the caller can choose, and the defaults.

use core::time::Duration;

/// How long to wait for a name that another process holds.
///
/// # A wait that can be cancelled
/// A signal handler does not end a wait, since a signal that comes just before the sleep would be missed. Instead, wait
/// in short turns and check a flag between them. A turn costs a few system calls, and still wakes at once when the
/// holder dies.
///
/// ```
/// use core::{sync::atomic::{AtomicBool, Ordering::Relaxed}, time::Duration};
/// use pidflock::{Error, PidLock, Wait};
///
/// /// Set by a handler of SIGTERM: yours, or that of the crate signal-hook.
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
    /// Does not wait.
    ///
    /// Retries for a few milliseconds if the file may have no holder: see
    /// [`PidLock::acquire`](crate::PidLock::acquire).
    #[default]
    Never,
    /// Waits until the name is free. Sleeps in flock(2) itself. A signal handler that runs during the sleep does not
    /// end it.
    ///
    /// On a file system whose flock(2) cannot wait, such as virtiofs, it polls at growing intervals instead.
    ///
    /// The kernel wakes the sleeper when the file that it queued on is unlocked. If another process removes that file
    /// without taking the lock, the sleeper stays queued behind the old holder for as long as that holder lives.
    Forever,
    /// Waits at most this long, on the monotonic clock. It never gives up earlier, and at most one scheduling delay
    /// later. While another process has a *shared* lock, it tries for at least the 100 ms that
    /// [`PidLock::acquire`](crate::PidLock::acquire) names.
    ///
    /// Sleeps on the holder's pidfd, and so wakes at once when the holder dies. For a holder that releases without
    /// dying, it polls at growing intervals of at most 50 ms. Without pidfds (before Linux 5.3, other systems, or
    /// forbidden by seccomp), it only polls. A time too large for the clock waits like `Forever`, but polls.
    For(Duration),
}

/// Options for acquiring or adopting a lock. [`PidLock::options`](crate::PidLock::options) returns the defaults. Finish
/// with [`Options::acquire`] or [`Options::adopt`].
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
    /// None for the default, to which the umask applies.
    pub(crate) mode: Option<u16>,
    pub(crate) create_parents: bool,
    pub(crate) sync: bool,
    pub(crate) remove_on_release: bool,
    pub(crate) wait: Wait,
}

impl Options {
    pub(crate) const DEFAULT: Options =
        Options { mode: None, create_parents: true, sync: true, remove_on_release: true, wait: Wait::Never };

    /// Sets the permission bits of the file: exactly these, whatever the umask is, even if the file already exists.
    /// Bits beyond `0o777` are ignored. Source: fchmod(2).
    ///
    /// Another user's file keeps its permissions, and so does every file on a file system without such modes. If you do
    /// not call this, a new file has `0o644` less the umask, and an existing file keeps its permissions. Parent
    /// directories always have `0o755` less the umask. If the umask is 077 and others must read the file, create the
    /// directory first.
    ///
    /// Every process that may open the file, even only to read it, can lock it and so keep the name from you. Omit the
    /// bits that strangers do not need. [`signal`](crate::signal()) does not trust a file that everybody can write.
    pub const fn mode(self, mode: u32) -> Options {
        Options { mode: Some((mode & 0o777) as u16), ..self }
    }

    /// Whether to create missing parent directories, with `0o755` less the umask. Default: yes. The directories stay.
    /// If not, a missing directory is [`Error::Sys`](crate::Error::Sys) with `NotFound` from `openat`. Source:
    /// mkdir(2).
    pub const fn create_parents(self, create: bool) -> Options {
        Options { create_parents: create, ..self }
    }

    /// Whether to flush the stamp with fsync(2). Default: yes. If not, a power cut may leave an empty file or an older
    /// claim. No lock survives either way.
    pub const fn sync(self, sync: bool) -> Options {
        Options { sync, ..self }
    }

    /// Whether a release removes the file (the default) or empties it and leaves it behind. Leave it if the daemon may
    /// not write to the directory, or if other programs lock the file without comparing it with the path, as flock(1)
    /// does. A failed acquire then leaves the file behind, too, even if it created it.
    pub const fn remove_on_release(self, remove: bool) -> Options {
        Options { remove_on_release: remove, ..self }
    }

    /// How long to wait for a name that another process holds. Default: [`Wait::Never`].
    pub const fn wait(self, wait: Wait) -> Options {
        Options { wait, ..self }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::DEFAULT
    }
}
