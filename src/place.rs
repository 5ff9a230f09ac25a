//! The place of a PID file: its directory, opened once, and its name in there; and what is done to the file by name.

use crate::{
    error::{Errno, Error, found},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{self, NAME_MOST, PATH_MOST},
    pid::{CLAIM_MAX, Pid},
    sys::{self, FileId, Kind, Status},
};
use core::ffi::CStr;

/// An open directory and a name in it. `chdir`, `chroot` and a renamed parent do not change which file is meant.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OwnedFd,
    /// Ends in a NUL.
    name: [u8; NAME_MOST + 1],
}

impl Place {
    /// Steps 1 and 2.
    pub(crate) fn open(path: &[u8], create_parents: bool) -> Result<Place, Error> {
        let (directory, word) = path::cut(path)?;
        let mut name = [0; NAME_MOST + 1];
        path::c_string(&mut name, word)?;
        let directory = match open_directory(directory) {
            Err(error) if create_parents && error.errno() == Some(Errno::NotFound) => {
                make_directory(directory)?;
                open_directory(directory)?
            }
            result => result?,
        };
        Ok(Place { directory, name })
    }

    fn name(&self) -> &CStr {
        sys::c_str(&self.name)
    }

    /// Step 3: the file, and whether it was not there and we made it; `Replaced` if it was there and is gone.
    pub(crate) fn open_or_create(&self, mode: u16) -> Result<(OwnedFd, bool), Error> {
        match sys::openat(self.directory.as_fd(), self.name(), sys::CREATE, mode) {
            Err(error) if error.errno() == Some(Errno::Exists) => match self.open_existing(sys::READ_WRITE) {
                Err(error) if error.errno() == Some(Errno::NotFound) => Err(Error::Replaced),
                result => Ok((result?, false)),
            },
            Ok(file) if file.as_raw_fd() < LOWEST_FD => {
                let moved = sys::duplicate(file.as_fd(), LOWEST_FD);
                if moved.is_err() {
                    self.withdraw(file.as_fd());
                }
                Ok((moved?, true))
            }
            result => Ok((result?, true)),
        }
    }

    /// Removes a file that a failed acquire has made, unless it is another's by now, and lets go of it. Under a shared lock
    /// nobody can hold it; if not even that is to be had, the file stays, empty.
    pub(crate) fn withdraw(&self, file: BorrowedFd<'_>) {
        if let (Ok(true), Ok(status)) = (sys::try_lock(file, Kind::Shared), self.identify(file)) {
            if status.size == 0 {
                let _the_first_error_counts = self.remove(status.id);
            }
        }
        let _the_first_error_counts = sys::unlock(file); // a sibling before its exec has a copy
    }

    /// The file. Opening waits for nobody and follows no link.
    pub(crate) fn open_existing(&self, flags: i32) -> Result<OwnedFd, Error> {
        match sys::openat(self.directory.as_fd(), self.name(), flags, 0) {
            Err(error) if error.errno() != Some(Errno::NotFound) => {
                match sys::fstatat(self.directory.as_fd(), self.name()) {
                    // Every kernel has its own numbers for links, sockets and directories: look what it is.
                    Ok(status) if !status.is_regular() => Err(Error::NotAPidFile),
                    // Somebody has a lease on it (fcntl(2), `F_SETLEASE`), and has now been asked to give it up.
                    _ if sys::would_block(error) => Err(Error::AlreadyLocked { holder: None }),
                    _ => Err(error),
                }
            }
            result => above_standard_streams(result?),
        }
    }

    /// Step 5: the status of an open file; `Replaced` if the name does not lead to it, and an error if it is no regular
    /// file.
    pub(crate) fn identify(&self, file: BorrowedFd<'_>) -> Result<Status, Error> {
        let status = sys::fstat(file)?;
        if !status.is_regular() {
            return Err(Error::NotAPidFile);
        }
        if self.names(status.id)? { Ok(status) } else { Err(Error::Replaced) }
    }

    /// Whether the name leads to this file.
    pub(crate) fn names(&self, file: FileId) -> Result<bool, Error> {
        let status = found(sys::fstatat(self.directory.as_fd(), self.name()))?;
        Ok(status.is_some_and(|status| status.id == file))
    }

    /// Removes the name if it leads to this file, which the caller has locked.
    ///
    /// No kernel can compare and unlink in one step. Whoever takes the lock before he removes or replaces the file
    /// cannot come between the two; who does not take it has been warned (README, hazards).
    pub(crate) fn remove(&self, file: FileId) -> Result<(), Error> {
        if !self.names(file)? {
            return Ok(()); // another file: not ours
        }
        match sys::unlinkat(self.directory.as_fd(), self.name()) {
            Err(error) if error.errno() == Some(Errno::NotFound) => Ok(()),
            result => result,
        }
    }
}

/// The claim in an open file, read by descriptor: the name may lead to another file by now.
pub(crate) fn claim(file: BorrowedFd<'_>) -> Result<Option<Pid>, Error> {
    let mut buffer = [0; CLAIM_MAX];
    Ok(Pid::parse(sys::read_head(file, &mut buffer)?))
}

#[inline(never)] // so that its buffer is on the stack only while it is needed
fn open_directory(path: &[u8]) -> Result<OwnedFd, Error> {
    let mut buffer = [0; PATH_MOST + 1];
    let path = path::c_string(&mut buffer, if path.is_empty() { b"." } else { path })?;
    above_standard_streams(sys::openat(sys::CWD, path, sys::DIRECTORY, 0)?)
}

/// Makes what is missing of a path, which ends in a slash, as mkdir(1) `-p` does: 0755, less the umask.
#[inline(never)] // as above
fn make_directory(path: &[u8]) -> Result<(), Error> {
    let mut buffer = [0; PATH_MOST + 1];
    // Not every system says of the root that it exists.
    let root = path.iter().take_while(|byte| **byte == b'/').count();
    for end in (root..path.len()).filter(|end| path.get(*end) == Some(&b'/')) {
        let parent = path::c_string(&mut buffer, path.get(..end).unwrap_or_default())?;
        match sys::mkdirat(sys::CWD, parent, 0o755) {
            Err(error) if error.errno() != Some(Errno::Exists) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The lowest number for a descriptor of ours. A daemon may be started with 0, 1 and 2 closed, and what it then prints,
/// or maps to /dev/null, must not meet the lock.
const LOWEST_FD: RawFd = 3;

pub(crate) fn above_standard_streams(fd: OwnedFd) -> Result<OwnedFd, Error> {
    if fd.as_raw_fd() < LOWEST_FD { sys::duplicate(fd.as_fd(), LOWEST_FD) } else { Ok(fd) }
}
