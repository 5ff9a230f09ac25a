//! What can go wrong, and its text. Pure: numbers in, words out, nothing allocated.

use crate::Pid;
use core::fmt;

/// Why an operation failed.
///
/// `Copy`, 8 bytes, and nothing on the heap, so that it can be made and passed on between `fork` and `exec`.
/// With the feature `std` it converts into [`std::io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// Another open file holds the lock.
    ///
    /// Contention is never reported in any other way. `holder` is the process named in the file, if it was alive
    /// when we looked; `None` if the file names nobody (its holder has locked, but not stamped it yet), a process that
    /// is dead or that this PID namespace cannot see, or if somebody sits on a *shared* lock.
    AlreadyLocked {
        /// The process that claims the lock.
        holder: Option<Pid>,
    },
    /// The path cannot be that of a PID file: empty, longer than 4,095 bytes, a NUL inside, a trailing slash, or a
    /// last component that is `.`, `..` or longer than 255 bytes.
    InvalidPath,
    /// What the path names is not a regular file with one link: a symbolic link, a directory, a FIFO, a socket, a
    /// device, or a file with a second hard link.
    NotAPidFile,
    /// The path no longer names the file that is (or was to be) locked.
    Replaced,
    /// Nobody holds the lock, so that there is nobody to signal.
    NotLocked,
    /// The file does not entitle anybody to a signal: it is world-writable, or its owner could not have signalled the
    /// process that it names.
    Untrusted,
    /// A system call failed.
    Sys {
        /// The call.
        call: Call,
        /// What the kernel said.
        errno: Errno,
    },
}

const _: () = assert!(size_of::<Error>() <= 8);
const _: () = assert!(size_of::<Option<Pid>>() == 4);

impl Error {
    /// The error of a system call, from `errno` as the C library leaves it.
    pub(crate) fn sys(call: Call, raw: i32) -> Error {
        Error::Sys { call, errno: Errno::from_raw(raw) }
    }

    /// What the kernel said, where it was asked.
    #[must_use]
    pub fn errno(self) -> Option<Errno> {
        match self {
            Error::Sys { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// The number in `errno` (see errno(3)), where a system call failed.
    #[must_use]
    pub fn raw_os_error(self) -> Option<i32> {
        self.errno().map(Errno::raw)
    }

    /// The message in pieces, for programs that do without `core::fmt`: words, then a number, if there is one.
    #[doc(hidden)]
    #[must_use]
    pub fn words(self) -> ([&'static str; 3], Option<u32>) {
        match self {
            Error::AlreadyLocked { holder: Some(pid) } => (["already locked by process ", "", ""], Some(pid.as_u32())),
            Error::AlreadyLocked { holder: None } => {
                (["already locked by a process that cannot be named", "", ""], None)
            }
            Error::InvalidPath => (["not the path of a file", "", ""], None),
            Error::NotAPidFile => (["not a regular file with one link", "", ""], None),
            Error::Replaced => (["replaced by another file", "", ""], None),
            Error::NotLocked => (["not locked", "", ""], None),
            Error::Untrusted => {
                (["not trusted: its owner could not have signalled the process that it names", "", ""], None)
            }
            Error::Sys { call, errno } => {
                let (text, number) = errno.words();
                ([call.name(), ": ", text], number)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, number) = self.words();
        for word in words {
            f.write_str(word)?;
        }
        match number {
            Some(number) => fmt::Display::fmt(&number, f),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error {}

/// Keeps `errno` where there is one. The other errors are carried whole, which allocates, and their kind is
/// `WouldBlock` for contention and `Other` else.
#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        match error {
            Error::Sys { errno, .. } => std::io::Error::from_raw_os_error(errno.raw()),
            Error::AlreadyLocked { .. } => std::io::Error::new(std::io::ErrorKind::WouldBlock, error),
            _ => std::io::Error::other(error),
        }
    }
}

/// The system call that failed, by the name of its manual page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the call of that name")]
pub enum Call {
    ClockGettime,
    Exec,
    Fcntl,
    Flock,
    Fstat,
    Fstatat,
    Fsync,
    Ftruncate,
    Getdents64,
    Getpid,
    Kill,
    Mkdirat,
    Openat,
    PidfdOpen,
    PidfdSendSignal,
    Pread,
    Pwrite,
    Unlinkat,
    Write,
}

impl Call {
    /// The name of its manual page: `"openat"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Call::ClockGettime => "clock_gettime",
            Call::Exec => "exec",
            Call::Fcntl => "fcntl",
            Call::Flock => "flock",
            Call::Fstat => "fstat",
            Call::Fstatat => "fstatat",
            Call::Fsync => "fsync",
            Call::Ftruncate => "ftruncate",
            Call::Getdents64 => "getdents64",
            Call::Getpid => "getpid",
            Call::Kill => "kill",
            Call::Mkdirat => "mkdirat",
            Call::Openat => "openat",
            Call::PidfdOpen => "pidfd_open",
            Call::PidfdSendSignal => "pidfd_send_signal",
            Call::Pread => "pread",
            Call::Pwrite => "pwrite",
            Call::Unlinkat => "unlinkat",
            Call::Write => "write",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the kernel said (errno(3)): the answers that a caller can act on by name, and [`Errno::Other`] for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Errno {
    /// `EACCES`
    PermissionDenied,
    /// `EBADF`
    BadDescriptor,
    /// `EDQUOT`
    QuotaExceeded,
    /// `EEXIST`
    Exists,
    /// `EFBIG`: the file-size limit of the process (`RLIMIT_FSIZE`) or of the file system.
    FileTooLarge,
    /// `EINVAL`
    Invalid,
    /// `EIO`
    Io,
    /// `ELOOP`
    SymbolicLinkLoop,
    /// `EMFILE`: the descriptor limit of the process.
    ProcessDescriptors,
    /// `ENAMETOOLONG`
    NameTooLong,
    /// `ENFILE`: the descriptor limit of the system.
    SystemDescriptors,
    /// `ENOENT`
    NotFound,
    /// `ENOLCK`: no memory for the lock, or a file system that has none.
    NoLock,
    /// `ENOMEM`
    NoMemory,
    /// `ENOSPC`: no space, or no inode.
    NoSpace,
    /// `ENOSYS`
    NotImplemented,
    /// `ENOTDIR`
    NotADirectory,
    /// `EOPNOTSUPP`
    NotSupported,
    /// `EPERM`
    NotPermitted,
    /// `EROFS`
    ReadOnlyFileSystem,
    /// `ESRCH`
    NoProcess,
    /// Any other number, as it is in `errno`.
    Other(u16),
}

/// Every named answer once, with its number and its text.
#[rustfmt::skip]
const NAMED: &[(Errno, i32, &str)] = &[
    (Errno::PermissionDenied,   libc::EACCES,       "permission denied"),
    (Errno::BadDescriptor,      libc::EBADF,        "bad file descriptor"),
    (Errno::QuotaExceeded,      libc::EDQUOT,       "disk quota exceeded"),
    (Errno::Exists,             libc::EEXIST,       "file exists"),
    (Errno::FileTooLarge,       libc::EFBIG,        "file too large"),
    (Errno::Invalid,            libc::EINVAL,       "invalid argument"),
    (Errno::Io,                 libc::EIO,          "input/output error"),
    (Errno::SymbolicLinkLoop,   libc::ELOOP,        "too many levels of symbolic links"),
    (Errno::ProcessDescriptors, libc::EMFILE,       "too many open files"),
    (Errno::NameTooLong,        libc::ENAMETOOLONG, "file name too long"),
    (Errno::SystemDescriptors,  libc::ENFILE,       "too many open files in system"),
    (Errno::NotFound,           libc::ENOENT,       "no such file or directory"),
    (Errno::NoLock,             libc::ENOLCK,       "no locks available"),
    (Errno::NoMemory,           libc::ENOMEM,       "cannot allocate memory"),
    (Errno::NoSpace,            libc::ENOSPC,       "no space left on device"),
    (Errno::NotImplemented,     libc::ENOSYS,       "function not implemented"),
    (Errno::NotADirectory,      libc::ENOTDIR,      "not a directory"),
    (Errno::NotSupported,       libc::EOPNOTSUPP,   "operation not supported"),
    (Errno::NotPermitted,       libc::EPERM,        "operation not permitted"),
    (Errno::ReadOnlyFileSystem, libc::EROFS,        "read-only file system"),
    (Errno::NoProcess,          libc::ESRCH,        "no such process"),
];

impl Errno {
    /// The answer for a number of `errno`. A number beyond 16 bits, which no kernel has, becomes `Other(u16::MAX)`.
    #[must_use]
    pub fn from_raw(raw: i32) -> Errno {
        let named = NAMED.iter().find(|(_, number, _)| *number == raw);
        named.map_or_else(|| Errno::Other(u16::try_from(raw).unwrap_or(u16::MAX)), |(errno, ..)| *errno)
    }

    /// The number in `errno`.
    #[must_use]
    pub fn raw(self) -> i32 {
        match (self, self.named()) {
            (Errno::Other(number), _) => i32::from(number),
            (_, Some((_, number, _))) => *number,
            (_, None) => 0, // cannot be: every other variant stands in the table, as a test makes sure
        }
    }

    fn named(self) -> Option<&'static (Errno, i32, &'static str)> {
        NAMED.iter().find(|(errno, ..)| *errno == self)
    }

    fn words(self) -> (&'static str, Option<u32>) {
        match self {
            Errno::Other(number) => ("error ", Some(u32::from(number))),
            _ => (self.named().map_or("", |(.., text)| text), None),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, number) = self.words();
        f.write_str(text)?;
        match number {
            Some(number) => fmt::Display::fmt(&number, f),
            None => Ok(()),
        }
    }
}
