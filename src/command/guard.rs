//! The guard that `pidflock run` leaves behind: it shares the lock, sleeps until COMMAND has ended, and cleans up.
//!
//! COMMAND may close the descriptor that it inherits, as many daemons do with all that they have not opened. The guard's
//! copy holds the name all the same. It is not COMMAND's child, which a daemon might wait for, and it keeps nothing else
//! of what `run` was started with: no stream that somebody reads to its end, no terminal, no directory.

use super::sys::{self, Disposition, Watched};
use core::time::Duration;
use pidflock::{AsRawFd, Errno, PidLock, Wait};

/// How long the guard waits for what COMMAND has left behind with the lock, to remove the file after all. Most that ends
/// because COMMAND has ended does so sooner.
const LEFT_BEHIND_WAIT: Wait = Wait::For(Duration::from_secs(1));

/// Leaves a guard behind that shares this lock. When it returns, the guard is complete. If it fails, there is none, and
/// the lock is released.
///
/// A process in between forks the guard, and ends: so the guard is no child of ours. (Only where orphans come to us it is,
/// as they do to the first process of a container.) The one in between makes itself what the guard is to be, so that there
/// is nothing left to do after the second fork.
pub(crate) fn leave_behind(lock: PidLock) -> Result<PidLock, Errno> {
    let command = Watched::this_process();
    // The directory of the lock was opened before its file, and is lower.
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
        // How the process in between reports an error.
        forked.err().map_or(0, |errno| u8::try_from(errno.as_raw()).unwrap_or(u8::MAX))
    });
    inherited.exchange();
    let errno = match exited {
        Ok(Some(0)) => None,
        Ok(Some(code)) => Some(Errno::from_raw(code.into())),
        Ok(None) => Some(Errno::NoProcess), // somebody has killed it
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
