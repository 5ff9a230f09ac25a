//! A process from outside: whether it is alive, sleep until it ends, signal it.

#[cfg(pidfd)]
use crate::fd::{AsFd, BorrowedFd, OwnedFd};
use crate::{failure::Failure, pid::Pid, signal::Signal, sys};

/// A process that was alive when it was found.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Never refers to another process, even if the PID is reused. None if the kernel has no pidfds.
    #[cfg(pidfd)]
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// The living process with this PID. None if it is dead or a zombie. (Without pidfds, a zombie counts as living.)
    #[cfg(pidfd)]
    pub(crate) fn find(pid: Pid) -> Result<Option<Process>, Failure> {
        let opened = match sys::pidfd_open(pid.get()) {
            // EINVAL: the number of a thread that does not lead a process.
            Err(failure) if matches!(failure.errno(), libc::ESRCH | libc::EINVAL | libc::ENOENT) => return Ok(None),
            opened => opened,
        };
        let pidfd = match opened.and_then(|pidfd| Ok((sys::ends_within(pidfd.as_fd(), 0)?, pidfd))) {
            Ok((true, _)) => return Ok(None),
            Ok((false, pidfd)) => Some(sys::above_standard_streams(pidfd)?),
            // Before Linux 5.3, or forbidden by a filter.
            Err(failure) if failure.is_refused_call() => None,
            Err(failure) => return Err(failure),
        };
        Ok((pidfd.is_some() || exists(pid)).then_some(Process { pid, pidfd }))
    }

    #[cfg(not(pidfd))]
    pub(crate) fn find(pid: Pid) -> Result<Option<Process>, Failure> {
        Ok(exists(pid).then_some(Process { pid }))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    #[cfg(pidfd)]
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Sleeps for this many nanoseconds, or until the process ends, or until a signal handler has run.
    pub(crate) fn sleep(&self, nanoseconds: u64) {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            if sys::ends_within(pidfd.as_fd(), nanoseconds).is_ok() {
                return;
            }
        }
        sys::sleep(nanoseconds);
    }

    /// Whether it is dead or a zombie. (Without pidfds, a zombie counts as living.)
    pub(crate) fn has_ended(&self) -> bool {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            return matches!(sys::ends_within(pidfd.as_fd(), 0), Ok(true));
        }
        !exists(self.pid)
    }

    /// Sends the signal to this process. By number only if there are no pidfds, or if they cannot signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            match sys::pidfd_send_signal(pidfd.as_fd(), signal.as_raw()) {
                // A filter may forbid this call and allow kill(2), whose answer then counts. The PID is valid while the
                // process lives.
                Err(failure) if failure.is_refused_call() && !self.has_ended() => {}
                result => return result,
            }
        }
        sys::kill(self.pid.get(), signal.as_raw())
    }
}

/// Whether any process, even a zombie, has this number. Asking needs no permission.
fn exists(pid: Pid) -> bool {
    !matches!(sys::kill(pid.get(), 0), Err(failure) if failure.errno() == libc::ESRCH)
}
