//! What can go wrong, and its text. Pure: takes numbers, returns words, allocates nothing.

use crate::pid::Pid;
use core::fmt;

/// Why an operation failed.
///
/// `Copy`, 8 bytes, and nothing on the heap, so you can make it and pass it on between `fork` and `exec`. With the
/// feature `std` it converts into `std::io::Error`. The page [`messages`](crate::messages) says what to do about each
/// error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// Another open file holds the lock.
    ///
    /// Contention is never reported in any other way.
    ///
    /// `holder` is the process that the file names, if it was alive during the call. (Without pidfds, it may be a dead
    /// process whose parent has not yet waited for it.) `holder` is `None` in these cases:
    ///
    /// - The file names no process: its holder has locked it, but not yet stamped it.
    /// - The file names a process that is dead, or that this PID namespace cannot see.
    /// - A process has a *shared* lock or a lease on the file.
    ///
    /// `holder` is the claim of the file, and may be the PID of an unrelated process: a refusal must be fast.
    /// [`probe`](crate::probe) also asks the kernel.
    ///
    /// If `holder` is this process itself, it acquired the name twice, or `pidflock run` started it under that name:
    /// see [`PidLock::adopt`](crate::PidLock::adopt).
    AlreadyLocked {
        /// The process that claims the lock.
        holder: Option<Pid>,
    },
    /// The path cannot be that of a PID file. It is empty or longer than 4,095 bytes, contains a NUL, or ends in a
    /// slash. Or its last component is `.`, `..` or longer than 255 bytes.
    InvalidPath,
    /// The path does not name a regular file with one link. It names a symbolic link, a directory, a FIFO, a socket, a
    /// device, or a file with a second hard link.
    NotAPidFile,
    /// The path no longer names the file that is (or was to be) locked.
    Replaced,
    /// No process holds the lock, so there is no process to signal.
    NotLocked,
    /// The file may not direct a signal, since users other than root and the caller can write it. One of these holds:
    ///
    /// - Everybody can write it.
    /// - Its owner may not signal the process.
    /// - Its owner or group can write it, and nothing but the file says that the process has the lock.
    Untrusted,
    /// A system call failed.
    Sys {
        /// The call that failed.
        call: Call,
        /// The kernel's answer.
        errno: Errno,
    },
}

const _: () = assert!(size_of::<Error>() <= 8);
const _: () = assert!(size_of::<Option<Pid>>() == 4);

impl Error {
    /// The kernel's answer, if a system call failed.
    #[must_use]
    pub fn errno(self) -> Option<Errno> {
        match self {
            Error::Sys { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// The number in `errno` (see errno(3)), if a system call failed.
    #[must_use]
    pub fn raw_os_error(self) -> Option<i32> {
        self.errno().map(Errno::as_raw)
    }

    /// The text that `Display` prints, in pieces, for programs without `core::fmt`.
    ///
    /// ```
    /// use pidflock::{Error, Pid};
    ///
    /// let message = Error::AlreadyLocked { holder: Pid::new(4242) }.message();
    /// assert_eq!((message.words.concat().as_str(), message.number), ("already locked by process ", Some(4242)));
    /// ```
    #[must_use]
    pub fn message(self) -> Message {
        let text = match self {
            Error::AlreadyLocked { holder: Some(holder) } => {
                return Message::about("already locked by process ", holder);
            }
            Error::AlreadyLocked { holder: None } => "already locked by an unknown process",
            Error::InvalidPath => "not the path of a file",
            Error::NotAPidFile => "not a regular file with one link",
            Error::Replaced => "replaced by another file",
            Error::NotLocked => "not locked",
            Error::Untrusted => "not trusted: users other than root and you can write it",
            Error::Sys { call, errno } => {
                return Message { words: [call.name(), ": ", errno.text()], number: errno.unnamed_number() };
            }
        };
        Message::text(text)
    }
}

/// A text in pieces: the words in order, then the number, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Printed with nothing between them. Unused words are empty.
    pub words: [&'static str; 3],
    /// Printed in decimal digits after the words: a PID, or an `errno` without a name.
    pub number: Option<u32>,
}

impl Message {
    pub(crate) fn text(text: &'static str) -> Message {
        Message { words: [text, "", ""], number: None }
    }

    pub(crate) fn about(text: &'static str, pid: Pid) -> Message {
        Message { words: [text, "", ""], number: Some(pid.as_u32()) }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in self.words {
            f.write_str(word)?;
        }
        self.number.map_or(Ok(()), |number| fmt::Display::fmt(&number, f))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

impl core::error::Error for Error {}

/// Keeps `errno` if there is one. Other errors are wrapped, which allocates. Their kind is `WouldBlock` for contention
/// and `Other` otherwise.
#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        match error {
            Error::Sys { errno, .. } => std::io::Error::from_raw_os_error(errno.as_raw()),
            Error::AlreadyLocked { .. } => std::io::Error::new(std::io::ErrorKind::WouldBlock, error),
            _ => std::io::Error::other(error),
        }
    }
}

/// Defines an enum from one list of variants, each with the name of its manual page.
macro_rules! calls {
    ($($variant:ident $name:literal,)*) => {
        /// The system call that failed, by the name of its manual page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Call {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Call {
            /// The call at this place of the list, counted from 0.
            pub(crate) fn at(place: i32) -> Option<Call> {
                match place {
                    $(place if place == Call::$variant as i32 => Some(Call::$variant),)*
                    _ => None,
                }
            }

            /// The name of its manual page: `"openat"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Call::$variant => $name,)*
                }
            }
        }
    };
}

#[rustfmt::skip]
calls! {
    ClockGettime "clock_gettime", Fchmod "fchmod", Fcntl "fcntl", Flock "flock", Fstat "fstat", Fstatat "fstatat",
    Fsync "fsync", Ftruncate "ftruncate", Getdents64 "getdents64", Getpid "getpid", Kill "kill", Mkdirat "mkdirat",
    Openat "openat", PidfdOpen "pidfd_open", PidfdSendSignal "pidfd_send_signal", Ppoll "ppoll", Pread "pread",
    Pwrite "pwrite", Unlinkat "unlinkat",
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Defines an enum from one list of variants, each with its number and its text.
macro_rules! errnos {
    ($($variant:ident $number:ident $text:literal,)*) => {
        /// The kernel's answer (errno(3)): a name for each answer that a caller can act on, and [`Errno::Other`] for
        /// the rest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Errno {
            $(#[doc = concat!("`", stringify!($number), "`: ", $text)] $variant,)*
            /// Any other number in `errno`.
            Other(u16),
        }

        impl Errno {
            /// The answer for a number in `errno`. A number beyond 16 bits, which no kernel has, becomes
            /// `Other(u16::MAX)`.
            #[must_use]
            pub fn from_raw(raw: i32) -> Errno {
                match raw {
                    $(libc::$number => Errno::$variant,)*
                    _ => Errno::Other(u16::try_from(raw).unwrap_or(u16::MAX)),
                }
            }

            /// The number in `errno`.
            #[must_use]
            pub fn as_raw(self) -> i32 {
                match self {
                    $(Errno::$variant => libc::$number,)*
                    Errno::Other(number) => i32::from(number),
                }
            }

            fn text(self) -> &'static str {
                match self {
                    $(Errno::$variant => $text,)*
                    Errno::Other(_) => "error ",
                }
            }
        }
    };
}

#[rustfmt::skip]
errnos! {
    PermissionDenied         EACCES       "permission denied",
    BadAddress               EFAULT       "bad address",
    BadDescriptor            EBADF        "bad file descriptor",
    BrokenPipe               EPIPE        "broken pipe",
    Deadlock                 EDEADLK      "resource deadlock avoided",
    NoDestination            EDESTADDRREQ "destination address required",
    QuotaExceeded            EDQUOT       "disk quota exceeded",
    AlreadyExists            EEXIST       "file exists",
    ExecutableFileBusy       ETXTBSY      "text file busy",
    FileTooLarge             EFBIG        "file too large",
    InvalidInput             EINVAL       "invalid argument",
    Io                       EIO          "input/output error",
    IsADirectory             EISDIR       "is a directory",
    SymbolicLinkLoop         ELOOP        "too many levels of symbolic links",
    TooManyLinks             EMLINK       "too many links",
    TooManyOpenFiles         EMFILE       "too many open files",
    NameTooLong              ENAMETOOLONG "file name too long",
    TooManyOpenFilesInSystem ENFILE       "too many open files in system",
    NoDevice                 ENODEV       "no such device",
    NoDeviceOrAddress        ENXIO        "no such device or address",
    NotConnected             ENOTCONN     "transport endpoint is not connected",
    NotExecutable            ENOEXEC      "exec format error",
    NotFound                 ENOENT       "no such file or directory",
    NotSeekable              ESPIPE       "illegal seek",
    NoLock                   ENOLCK       "no locks available",
    OutOfMemory              ENOMEM       "cannot allocate memory",
    ResourceBusy             EBUSY        "device or resource busy",
    StaleHandle              ESTALE       "stale file handle",
    StorageFull              ENOSPC       "no space left on device",
    NotImplemented           ENOSYS       "function not implemented",
    NotADirectory            ENOTDIR      "not a directory",
    NotSupported             EOPNOTSUPP   "operation not supported",
    NotPermitted             EPERM        "operation not permitted",
    ReadOnlyFilesystem       EROFS        "read-only file system",
    NoProcess                ESRCH        "no such process",
    TimedOut                 ETIMEDOUT    "connection timed out",
    TooManyArguments         E2BIG        "argument list too long",
    ValueTooLarge            EOVERFLOW    "value too large for defined data type",
    WouldBlock               EWOULDBLOCK  "resource temporarily unavailable",
}

impl Errno {
    /// The text that `Display` prints, in pieces: see [`Error::message`].
    #[must_use]
    pub fn message(self) -> Message {
        Message { words: [self.text(), "", ""], number: self.unnamed_number() }
    }

    fn unnamed_number(self) -> Option<u32> {
        match self {
            Errno::Other(number) => Some(number.into()),
            _ => None,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

impl From<Errno> for i32 {
    fn from(errno: Errno) -> i32 {
        errno.as_raw()
    }
}
