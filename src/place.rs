//! The place of a PID file: its directory, opened once, and its name in there; and what is done to the file by name.

use crate::{
    error::{Errno, Error},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{self, Directory, Name},
    pid::{CLAIM_MAX, Pid},
    sys::{self, FileId, Kind, Status},
};

/// How often in a row a file may vanish between two calls before we give up. Each time, somebody else has acquired and
/// released the name in between, so that even two such turns are rare.
pub(crate) const TURNS: u32 = 100;

/// An open directory and a name in it. `chdir`, `chroot` and a renamed parent do not change which file is meant.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OwnedFd,
    name: Name,
}

impl Place {
    /// Steps 1 and 2.
    pub(crate) fn open(path: &[u8], create_parents: bool) -> Result<Place, Error> {
        let (directory, name) = path::cut(path)?;
        let directory = match open_directory(directory) {
            Err(error) if create_parents && error.errno() == Some(Errno::NotFound) => make_directory(directory)?,
            result => result?,
        };
        Ok(Place { directory, name })
    }

    /// Step 3: the file, and whether it was not there and we made it.
    pub(crate) fn open_or_create(&self, mode: u16) -> Result<(OwnedFd, bool), Error> {
        for _ in 0..TURNS {
            match sys::openat(self.directory.as_fd(), self.name.as_c_str(), sys::CREATE, mode) {
                Err(error) if error.errno() == Some(Errno::Exists) => {}
                Ok(file) if file.as_raw_fd() < LOWEST_FD => {
                    let moved = sys::duplicate(file.as_fd(), LOWEST_FD);
                    if moved.is_err() {
                        self.withdraw(file.as_fd());
                    }
                    return Ok((moved?, true));
                }
                result => return Ok((result?, true)),
            }
            if let Some(file) = self.open_existing(sys::READ_WRITE)? {
                return Ok((file, false));
            } // removed between the two
        }
        Err(Error::Replaced)
    }

    /// Removes a file that a failed acquire has made, unless it is another's by now, and lets go of it. Under a shared lock
    /// nobody can hold it; if not even that is to be had, the file stays, empty.
    pub(crate) fn withdraw(&self, file: BorrowedFd<'_>) {
        if let (Ok(true), Ok(Some(status))) = (sys::try_lock(file, Kind::Shared), self.identify(file)) {
            if status.size == 0 {
                let _the_first_error_counts = self.remove(status.id);
            }
        }
        let _the_first_error_counts = sys::unlock(file); // a sibling before its exec has a copy
    }

    /// The file, if there is one. Opening waits for nobody and follows no link.
    pub(crate) fn open_existing(&self, flags: i32) -> Result<Option<OwnedFd>, Error> {
        match sys::openat(self.directory.as_fd(), self.name.as_c_str(), flags, 0) {
            Ok(file) => above_standard_streams(file).map(Some),
            Err(error) if error.errno() == Some(Errno::NotFound) => Ok(None),
            Err(error) => match sys::fstatat(self.directory.as_fd(), self.name.as_c_str(), false) {
                // Every kernel has its own numbers for links, sockets and directories: look what it is.
                Ok(status) if !status.regular => Err(Error::NotAPidFile),
                // Somebody has a lease on it (fcntl(2), `F_SETLEASE`), and has now been asked to give it up.
                _ if sys::would_block(error) => Err(Error::AlreadyLocked { holder: None }),
                _ => Err(error),
            },
        }
    }

    /// Step 5: the status of an open file, if the name still leads to it; an error if it is no regular file.
    pub(crate) fn identify(&self, file: BorrowedFd<'_>) -> Result<Option<Status>, Error> {
        let status = sys::fstat(file)?;
        if !status.regular {
            return Err(Error::NotAPidFile);
        }
        Ok(self.names(status.id)?.then_some(status))
    }

    /// Whether the name leads to this file.
    pub(crate) fn names(&self, file: FileId) -> Result<bool, Error> {
        match sys::fstatat(self.directory.as_fd(), self.name.as_c_str(), false) {
            Ok(status) => Ok(status.id == file),
            Err(error) if error.errno() == Some(Errno::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the name if it leads to this file, which the caller has locked.
    ///
    /// No kernel can compare and unlink in one step. Whoever takes the lock before he removes or replaces the file
    /// cannot come between the two; who does not take it has been warned (README, hazards).
    pub(crate) fn remove(&self, file: FileId) -> Result<(), Error> {
        if !self.names(file)? {
            return Ok(()); // another file: not ours
        }
        match sys::unlinkat(self.directory.as_fd(), self.name.as_c_str()) {
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

#[inline(never)] // so that its buffer is on the stack only while it is needed, and once
fn open_directory(path: &[u8]) -> Result<OwnedFd, Error> {
    let mut buffer = Directory::EMPTY;
    let path = buffer.set(if path.is_empty() { b"." } else { path })?;
    above_standard_streams(sys::openat(sys::CWD, path, sys::DIRECTORY, 0)?)
}

/// Goes down the path, as mkdir(1) `-p` does, and makes what is missing: 0755, less the umask.
fn make_directory(path: &[u8]) -> Result<OwnedFd, Error> {
    let mut directory = open_directory(if path.starts_with(b"/") { b"/" } else { b"." })?;
    for component in path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
        let mut buffer = Name::EMPTY;
        let name = buffer.set(component)?;
        let child = match sys::openat(directory.as_fd(), name, sys::DIRECTORY, 0) {
            Err(error) if error.errno() == Some(Errno::NotFound) => {
                match sys::mkdirat(directory.as_fd(), name, 0o755) {
                    Err(error) if error.errno() != Some(Errno::Exists) => return Err(error),
                    _ => sys::openat(directory.as_fd(), name, sys::DIRECTORY, 0)?,
                }
            }
            result => result?,
        };
        directory = above_standard_streams(child)?;
    }
    Ok(directory)
}

/// The lowest number for a descriptor of ours. A daemon may be started with 0, 1 and 2 closed, and what it then prints,
/// or maps to /dev/null, must not meet the lock.
const LOWEST_FD: RawFd = 3;

pub(crate) fn above_standard_streams(fd: OwnedFd) -> Result<OwnedFd, Error> {
    if fd.as_raw_fd() < LOWEST_FD { sys::duplicate(fd.as_fd(), LOWEST_FD) } else { Ok(fd) }
}
