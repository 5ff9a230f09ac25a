//! The guard of `pidflock run`: it shares the lock, sleeps until COMMAND has ended, and cleans up.
//!
//! COMMAND may close the inherited descriptor, as many daemons close all that they did not open. The guard's copy still
//! holds the name. The guard is not COMMAND's child, since a daemon may wait for all its children. It keeps nothing
//! else that `run` was started with: no stream whose reader waits for its end, no terminal, no directory.

use super::sys::{self, Disposition, Watched};
use core::time::Duration;
use pidflock::{AsRawFd, Errno, PidLock, Wait};

/// How long the guard waits for processes that COMMAND left behind with the lock, to remove the file after all. Most of
/// those that end because COMMAND ended do so sooner.
const LEFT_BEHIND_WAIT: Wait = Wait::For(Duration::from_secs(1));

/// Starts a guard that shares this lock. On return, the guard is complete. On failure, there is no guard, and the lock
/// is released.
///
/// A process in between forks the guard and ends, so that the guard is not our child. (It is our child only if orphans
/// come to us, as they do to the first process of a container.) The process in between does all the setup, so that
/// nothing is left to do after the second fork.
pub(crate) fn leave_behind(lock: PidLock) -> Result<PidLock, Errno> {
    let command = Watched::this_process();
    // The directory of the lock was opened before its file, so its number is lower.
    let highest = command.highest().max(lock.as_raw_fd());
    let mut lock = Some(lock);
    let inherited = Disposition::KEEP_CHILDREN.exchange();
    let exited = sys::in_child(&mut || {
        sys::leave_session();
        sys::block_signals();
        sys::set_name(c"pidflock-guard");
        sys::leave_directory();
        sys::close_inherited(highest);
        sys::open_null();
        let forked = sys::beside(&mut || {
            command.wait();
            let _nobody_to_tell = lock.take().map(|lock| lock.release_if_last(LEFT_BEHIND_WAIT));
            0
        });
        // The process in between reports an error by its exit code.
        forked.err().map_or(0, |errno| u8::try_from(errno.as_raw()).unwrap_or(u8::MAX))
    });
    inherited.exchange();
    let errno = match exited {
        Ok(Some(0)) => None,
        Ok(Some(code)) => Some(Errno::from_raw(code.into())),
        Ok(None) => Some(Errno::NoProcess), // it was killed
        Err(errno) => Some(errno),
    };
    match (lock, errno) {
        (Some(lock), None) => Ok(lock),
        (lock, errno) => {
            let _the_first_error_counts = lock.map(PidLock::release);
            Err(errno.unwrap_or(Errno::NoProcess)) // there is a lock: only the guard takes it
        }
    }
}
