//! A process seen from outside: is it alive, sleep until it ends, signal it.

#[cfg(pidfd)]
use crate::fd::{AsFd, OwnedFd};
use crate::{
    error::{Errno, Error},
    pid::Pid,
    signal::Signal,
    sys::{self, FileId},
};
#[cfg(proc)]
use crate::{fd::BorrowedFd, path::Text, pid::STAMP_MAX};
#[cfg(proc)]
use core::ffi::CStr;

/// A process that was alive when it was found.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Stays with the process when its number is given to another. None where the kernel has no pidfds.
    #[cfg(pidfd)]
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// The living process with this number; none if it is dead, also if nobody has waited for it yet.
    #[cfg(pidfd)]
    pub(crate) fn find(pid: Pid) -> Result<Option<Process>, Error> {
        let pidfd = match sys::pidfd_open(pid.get()) {
            Ok(pidfd) if sys::ends_within(pidfd.as_fd(), 0)? => return Ok(None),
            Ok(pidfd) => Some(pidfd),
            Err(error) => match error.errno() {
                // Before Linux 5.3, or forbidden by seccomp.
                Some(Errno::NotImplemented | Errno::NotPermitted) => None,
                // EINVAL: the number of a thread that does not lead a process.
                Some(Errno::NoProcess | Errno::Invalid | Errno::NotFound) => return Ok(None),
                _ => return Err(error),
            },
        };
        Ok((pidfd.is_some() || exists(pid)).then_some(Process { pid, pidfd }))
    }

    #[cfg(not(pidfd))]
    pub(crate) fn find(pid: Pid) -> Result<Option<Process>, Error> {
        Ok(exists(pid).then_some(Process { pid }))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sleeps for so many nanoseconds, or until the process ends, or until a signal handler has run.
    pub(crate) fn sleep(&self, nanoseconds: u64) {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            if sys::ends_within(pidfd.as_fd(), nanoseconds).is_ok() {
                return;
            }
        }
        sys::sleep(nanoseconds);
    }

    /// Who owns the process, and whether it has locked this file: none where /proc is not there, or hides it from us.
    #[cfg(proc)]
    pub(crate) fn holding(&self, file: FileId) -> Result<(Option<u32>, Option<bool>), Error> {
        // Open, it stays with the process when its number is given to another.
        let (digits, length) = self.pid.stamp::<STAMP_MAX>();
        let mut name = Text::<STAMP_MAX>::EMPTY;
        let name = name.set(digits.get(..length - 1).unwrap_or_default())?;
        let process = |proc: OwnedFd| sys::openat(proc.as_fd(), name, sys::DIRECTORY, 0);
        let Some(directory) = visible(sys::openat(sys::CWD, c"/proc", sys::DIRECTORY, 0).and_then(process))? else {
            return Ok((None, None));
        };
        let owner = visible(sys::fstat(directory.as_fd()))?.map(|status| status.owner);
        let Some(files) = visible(sys::openat(directory.as_fd(), c"fd", sys::LISTING, 0))? else {
            return Ok((owner, None));
        };
        Ok((owner, visible(has_locked(directory.as_fd(), files.as_fd(), file))?))
    }

    #[cfg(not(proc))]
    pub(crate) fn holding(&self, _: FileId) -> Result<(Option<u32>, Option<bool>), Error> {
        Ok((None, None))
    }

    /// Sends the signal to this process; by number only where there are no pidfds.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            return sys::pidfd_send_signal(pidfd.as_fd(), signal.number());
        }
        sys::kill(self.pid.get(), signal.number())
    }
}

/// Whether any process, also one that nobody has waited for yet, has this number. Asking needs no permission.
fn exists(pid: Pid) -> bool {
    !matches!(sys::kill(pid.get(), 0), Err(error) if error.errno() == Some(Errno::NoProcess))
}

/// What /proc says; none where it hides that, or the process is gone. Any other error must not pass for that.
#[cfg(proc)]
fn visible<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Err(Error::Sys {
            errno: Errno::NotFound | Errno::PermissionDenied | Errno::NotPermitted | Errno::NoProcess,
            ..
        }) => Ok(None),
        result => result.map(Some),
    }
}

/// Whether the process of this directory of /proc has an open file that is this one, with an exclusive lock on it:
/// `fd` leads to the files, and `fdinfo` tells the locks, as in `lock: 1: FLOCK  ADVISORY  WRITE 4242 08:01:77 0 EOF`.
#[cfg(proc)]
fn has_locked(process: BorrowedFd<'_>, files: BorrowedFd<'_>, file: FileId) -> Result<bool, Error> {
    let infos = sys::openat(process, c"fdinfo", sys::DIRECTORY, 0)?;
    let mut buffer = [0; 1024];
    loop {
        let mut entries = sys::entries(files, &mut buffer)?;
        if entries.is_empty() {
            return Ok(false);
        }
        while let Some((name, rest)) = next_entry(entries) {
            entries = rest;
            if !visible(sys::fstatat(files, name, true))?.is_some_and(|status| status.id == file) {
                continue;
            }
            let Some(info) = visible(sys::openat(infos.as_fd(), name, sys::READ, 0))? else { continue };
            let mut text = [0; 512];
            let text = sys::read_head(info.as_fd(), &mut text)?;
            if holds(text, b"FLOCK ") && holds(text, b" WRITE ") {
                return Ok(true);
            }
        }
    }
}

/// The name in a `struct linux_dirent64` (getdents64(2)), and the entries after it.
#[cfg(proc)]
fn next_entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]);
    let (entry, rest) = entries.split_at_checked(length.into())?;
    Some((CStr::from_bytes_until_nul(entry.get(19..)?).ok()?, rest))
}

#[cfg(proc)]
fn holds(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}
