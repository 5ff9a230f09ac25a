//! The place of a PID file: its directory, opened once, its name there, and the operations on that name.

use crate::{
    failure::{Failure, found},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{self, NAME_MAX, PATH_MAX},
    sys::{self, FileId, LockKind, Stat},
};
use core::{
    ffi::CStr,
    fmt::{self, Write},
};

/// An open directory and a name in it. `chdir`, `chroot` and renaming a parent do not change which file this is.
pub(crate) struct Place {
    directory: OwnedFd,
    /// Ends in a NUL.
    name: [u8; NAME_MAX + 1],
}

/// Prints the name, not its buffer of 256 bytes.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The `Debug` of a string can panic.
        f.write_char('"')?;
        for byte in self.name().to_bytes() {
            f.write_char(if byte.is_ascii_graphic() { char::from(*byte) } else { '?' })?;
        }
        f.write_char('"')
    }
}

/// A file that was opened for a lock.
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    /// Whether we created it.
    pub(crate) created: bool,
}

impl Place {
    /// Steps 1 and 2.
    pub(crate) fn open(path: &[u8], create_parents: bool) -> Result<Place, Failure> {
        let parts = path::cut(path)?;
        let directory = open_directory(parts.directory, create_parents)?;
        let mut place = Place { directory, name: [0; NAME_MAX + 1] };
        c_string(&mut place.name, parts.name);
        Ok(place)
    }

    fn name(&self) -> &CStr {
        sys::c_str(&self.name)
    }

    /// Step 3: opens or creates the file. `Replaced` if it existed and is gone.
    pub(crate) fn open_or_create(&self, mode: u16) -> Result<Opened, Failure> {
        match sys::openat(self.directory.as_fd(), self.name(), sys::CREATE, mode) {
            Ok(file) => Ok(Opened { file: self.move_created(file)?, created: true }),
            Err(failure) if failure.errno() == libc::EEXIST => {
                let file = found(self.open_existing(sys::READ_WRITE))?;
                Ok(Opened { file: file.ok_or(Failure::REPLACED)?, created: false })
            }
            Err(failure) if failure.errno() == libc::EWOULDBLOCK => Err(Failure::LOCKED_BY_UNKNOWN), // a lease, as below
            Err(failure) => Err(failure),
        }
    }

    /// Moves the descriptor of a new file above the standard streams. On failure, removes the file.
    fn move_created(&self, file: OwnedFd) -> Result<OwnedFd, Failure> {
        if file.as_raw_fd() >= sys::LOWEST_FD {
            return Ok(file);
        }
        sys::duplicate(file.as_fd(), sys::LOWEST_FD).inspect_err(|_| self.remove_unused(file.as_fd()))
    }

    /// Removes a file that a failed acquire created, unless another process uses it by now, and unlocks it. While we
    /// have a shared lock, no process can hold the file. If we cannot get even that, the empty file stays.
    pub(crate) fn remove_unused(&self, file: BorrowedFd<'_>) {
        if let (Ok(true), Ok(stat)) = (sys::try_lock(file, LockKind::Shared), self.verify(file)) {
            if stat.size == 0 {
                let _the_first_error_counts = self.remove(stat.id);
            }
        }
        let _the_first_error_counts = sys::unlock(file); // a child between fork and exec may have a copy
    }

    /// Opens the existing file. Never blocks and follows no link.
    pub(crate) fn open_existing(&self, flags: i32) -> Result<OwnedFd, Failure> {
        let failure = match sys::openat(self.directory.as_fd(), self.name(), flags, 0) {
            Ok(file) => return sys::above_standard_streams(file),
            Err(failure) => failure,
        };
        if failure.errno() == libc::ENOENT {
            return Err(failure);
        }
        match sys::fstatat(self.directory.as_fd(), self.name()) {
            // The errors for links, sockets and directories differ between kernels: check the type instead.
            Ok(stat) if !stat.is_regular() => Err(Failure::NOT_A_PID_FILE),
            // Another process has a lease on it (fcntl(2), `F_SETLEASE`). The kernel has now asked it to give that up.
            _ if failure.errno() == libc::EWOULDBLOCK => Err(Failure::LOCKED_BY_UNKNOWN),
            _ => Err(failure),
        }
    }

    /// Step 5: the status of an open file. `Replaced` if the name does not lead to it. Fails if it is not a regular
    /// file.
    pub(crate) fn verify(&self, file: BorrowedFd<'_>) -> Result<Stat, Failure> {
        let stat = sys::fstat(file)?;
        if !stat.is_regular() {
            return Err(Failure::NOT_A_PID_FILE);
        }
        if self.leads_to(stat.id)? { Ok(stat) } else { Err(Failure::REPLACED) }
    }

    /// Whether the name leads to this file.
    pub(crate) fn leads_to(&self, file: FileId) -> Result<bool, Failure> {
        let stat = found(sys::fstatat(self.directory.as_fd(), self.name()))?;
        Ok(stat.is_some_and(|stat| stat.id == file))
    }

    /// Removes the name if it leads to this file, which the caller has locked.
    ///
    /// There is a window between the check and `unlinkat`: no kernel offers compare-and-unlink. A process that takes
    /// the lock before it removes or replaces the file cannot enter the window. For other processes see the hazards in
    /// the README.
    pub(crate) fn remove(&self, file: FileId) -> Result<(), Failure> {
        if !self.leads_to(file)? {
            return Ok(()); // another file, not ours
        }
        match sys::unlinkat(self.directory.as_fd(), self.name()) {
            Err(failure) if failure.errno() == libc::ENOENT => Ok(()),
            result => result,
        }
    }
}

/// Opens the directory of a path: all up to its last slash, or the working directory. If `create` is set, creates the
/// missing part, as mkdir(1) `-p` does: 0755, less the umask.
#[inline(never)] // keeps its buffer off the stack of the callers
fn open_directory(path: &[u8], mut create: bool) -> Result<OwnedFd, Failure> {
    let mut buffer = [0; PATH_MAX + 1];
    let path = if path.is_empty() { b"." } else { path };
    // Skips the root: not every system answers `EEXIST` for it.
    let root = path.iter().take_while(|byte| **byte == b'/').count();
    loop {
        let failure = match sys::openat(sys::CWD, c_string(&mut buffer, path), sys::DIRECTORY, 0) {
            Ok(directory) => return sys::above_standard_streams(directory),
            Err(failure) => failure,
        };
        if failure.errno() != libc::ENOENT || !create {
            return Err(failure);
        }
        create = false;
        for end in (root..path.len()).filter(|end| path.get(*end) == Some(&b'/')) {
            let parent = c_string(&mut buffer, path.get(..end).unwrap_or_default());
            match sys::mkdirat(sys::CWD, parent, 0o755) {
                Err(failure) if failure.errno() != libc::EEXIST => return Err(failure),
                _ => {}
            }
        }
    }
}

/// Copies part of a path into a buffer, as a C string. The caller provides the buffer, since it may be most of the
/// stack that an operation needs.
fn c_string<'b>(buffer: &'b mut [u8], text: &[u8]) -> &'b CStr {
    for (to, from) in buffer.iter_mut().zip(text) {
        *to = *from;
    }
    if let Some(end) = buffer.get_mut(text.len()) {
        *end = 0;
    }
    sys::c_str(buffer)
}
