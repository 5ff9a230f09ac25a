//! A process seen from outside: is it alive, sleep until it ends, signal it.

#[cfg(pidfd)]
use crate::fd::{AsFd, OwnedFd};
#[cfg(proc)]
use crate::{error::found, fd::BorrowedFd, pid::DIGITS_MAX};
use crate::{
    error::{Errno, Error},
    pid::Pid,
    signal::Signal,
    sys::{self, FileId},
};
#[cfg(proc)]
use core::ffi::CStr;

/// What the kernel says of a process and a file.
pub(crate) struct Evidence {
    /// The effective user of the process.
    pub(crate) owner: u32,
    /// The process has the file open, with an exclusive lock.
    pub(crate) has_lock: bool,
}

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
                Some(Errno::NoProcess | Errno::InvalidInput | Errno::NotFound) => return Ok(None),
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

    /// What /proc shows of the process and this file; none where /proc is not mounted, or hides either from us.
    #[cfg(proc)]
    pub(crate) fn evidence(&self, file: FileId) -> Result<Option<Evidence>, Error> {
        let mut name = [0; DIGITS_MAX + 1];
        self.pid.write_digits(&mut name);
        let look = || {
            let proc = sys::openat(sys::CWD, c"/proc", sys::DIRECTORY, 0)?;
            // Open, it stays with the process when its number is given to another.
            let process = sys::openat(proc.as_fd(), sys::c_str(&name), sys::DIRECTORY, 0)?;
            let owner = sys::fstat(process.as_fd())?.owner;
            Ok(Evidence { owner, has_lock: has_locked(process.as_fd(), file)? })
        };
        match look() {
            // Or the process is gone. Any other error must not pass for that.
            Err(Error::Sys {
                errno: Errno::NotFound | Errno::PermissionDenied | Errno::NotPermitted | Errno::NoProcess,
                ..
            }) => Ok(None),
            result => result.map(Some),
        }
    }

    #[cfg(not(proc))]
    pub(crate) fn evidence(&self, _: FileId) -> Result<Option<Evidence>, Error> {
        Ok(None)
    }

    /// Whether it is dead, also if nobody has waited for it yet.
    pub(crate) fn has_ended(&self) -> bool {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            return matches!(sys::ends_within(pidfd.as_fd(), 0), Ok(true));
        }
        !exists(self.pid)
    }

    /// Sends the signal to this process; by number only where there are no pidfds.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            return sys::pidfd_send_signal(pidfd.as_fd(), signal.as_raw());
        }
        sys::kill(self.pid.get(), signal.as_raw())
    }
}

/// Whether any process, also one that nobody has waited for yet, has this number. Asking needs no permission.
fn exists(pid: Pid) -> bool {
    !matches!(sys::kill(pid.get(), 0), Err(error) if error.errno() == Some(Errno::NoProcess))
}

/// What `fdinfo` says of an open file with an exclusive lock of flock(2): `lock: 1: FLOCK  ADVISORY  WRITE 4242 08:01:77 0
/// EOF` (proc_pid_fdinfo(5)). A lock of fcntl(2) is another word.
#[cfg(proc)]
const LOCKED: &[u8] = b"FLOCK  ADVISORY  WRITE ";

/// Whether the process of this directory of /proc has an open file that is this one, with an exclusive lock on it:
/// `fdinfo` tells the locks, and `fd` leads to the files. In this order, since a file system that does not answer, or not
/// us, is then asked only about a file with such a lock.
#[cfg(proc)]
fn has_locked(process: BorrowedFd<'_>, file: FileId) -> Result<bool, Error> {
    let infos = sys::openat(process, c"fdinfo", sys::LISTING, 0)?;
    let files = sys::openat(process, c"fd", sys::DIRECTORY, 0)?;
    let mut buffer = [0; 1024];
    loop {
        let mut entries = sys::entries(infos.as_fd(), &mut buffer)?;
        if entries.is_empty() {
            return Ok(false);
        }
        while let Some((name, rest)) = next_entry(entries) {
            entries = rest;
            let Some(info) = found(sys::openat(infos.as_fd(), name, sys::READ, 0))? else { continue };
            let mut text = [0; 512];
            // The entries `.` and `..` cannot be read.
            let text = sys::read_head(info.as_fd(), &mut text).unwrap_or_default();
            if text.windows(LOCKED.len()).any(|window| window == LOCKED) {
                // What /proc denies may be this file. Whose file system denies it, or does not answer, is another.
                let Some(link) = found(sys::openat(files.as_fd(), name, sys::LINK, 0))? else { continue };
                if sys::fstat(link.as_fd()).is_ok_and(|status| status.id == file) {
                    return Ok(true);
                }
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
