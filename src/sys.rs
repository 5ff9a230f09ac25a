//! The system calls: one small safe function each, that adds `EINTR` and `errno` and decides nothing.
//!
//! Results follow one rule: -1 becomes `Error::Sys` with the name of the call, and `errno` is read then and only then.
//! An interrupted call is called again (`again`), except the two that sleep for a time and close(2), which is not here:
//! descriptors close themselves on drop.

use crate::{
    error::{Call, Errno, Error},
    fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};
use core::{
    ffi::{CStr, c_char, c_int},
    mem::MaybeUninit,
};

/// libc, with the large-file calls in the place of the small-file ones of 32-bit glibc.
mod c {
    #[cfg(errno = "___errno")]
    pub(super) use libc::___errno as errno_location;
    #[cfg(errno = "__errno")]
    pub(super) use libc::__errno as errno_location;
    #[cfg(errno = "__errno_location")]
    pub(super) use libc::__errno_location as errno_location;
    #[cfg(errno = "__error")]
    pub(super) use libc::__error as errno_location;
    pub(super) use libc::*;
    #[cfg(large_file_calls)]
    pub(super) use libc::{
        fstat64 as fstat, fstatat64 as fstatat, ftruncate64 as ftruncate, openat64 as openat, pread64 as pread,
        pwrite64 as pwrite, stat64 as stat,
    };
}

type Result<T> = core::result::Result<T, Error>;

/// The working directory, in the place of an open one.
// SAFETY: AT_FDCWD is no descriptor, so nobody can close it, and the *at calls take it.
pub(crate) const CWD: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(c::AT_FDCWD) };

/// For a directory: opened by who may search it, even if he may not list it, where the kernel can.
#[cfg(o_path)]
pub(crate) const DIRECTORY: c_int = c::O_PATH | c::O_DIRECTORY;
#[cfg(not(o_path))]
pub(crate) const DIRECTORY: c_int = c::O_RDONLY | c::O_DIRECTORY;

/// For a directory that is to be listed.
#[cfg(proc)]
pub(crate) const LISTING: c_int = c::O_RDONLY | c::O_DIRECTORY;

/// For what a link of /proc leads to, without asking its file system.
#[cfg(proc)]
pub(crate) const LINK: c_int = c::O_PATH;

/// For a file that may be anything: not through a symbolic link, not waiting for a FIFO's other end, and no terminal
/// becomes ours. `O_TRUNC` never: what is in the file is its holder's.
pub(crate) const READ: c_int = c::O_RDONLY | c::O_NOFOLLOW | c::O_NONBLOCK | c::O_NOCTTY;
pub(crate) const READ_WRITE: c_int = c::O_RDWR | c::O_NOFOLLOW | c::O_NONBLOCK | c::O_NOCTTY;
pub(crate) const CREATE: c_int = READ_WRITE | c::O_CREAT | c::O_EXCL;

/// What a call has returned, if it is not -1, or why it is; none if a signal interrupted it.
#[inline(never)] // once, and not in every function below
fn outcome(call: Call, returned: c_int) -> Option<Result<c_int>> {
    if returned != -1 {
        return Some(Ok(returned));
    }
    // SAFETY: it takes nothing and returns the address of this thread's errno.
    let errno = unsafe { c::errno_location() };
    // SAFETY: that address is valid and ours for as long as the thread runs.
    let errno = unsafe { *errno };
    (errno != c::EINTR).then(|| Err(Error::sys(call, errno)))
}

/// Calls until it was not a signal that ended the call.
fn again(call: Call, mut f: impl FnMut() -> c_int) -> Result<c_int> {
    loop {
        if let Some(result) = outcome(call, f()) {
            return result;
        }
    }
}

/// What a call has returned as a longer number: -1, a descriptor, or a length within one of our buffers.
#[inline(never)] // like `outcome`
fn int(returned: impl TryInto<c_int>) -> c_int {
    returned.try_into().unwrap_or(c_int::MAX)
}

/// A length that a call has returned.
fn length(returned: c_int) -> usize {
    returned.unsigned_abs() as usize
}

/// Owns the descriptor that a call has just returned.
fn owned(returned: c_int) -> OwnedFd {
    // SAFETY: the callers pass on what a call that makes a descriptor has returned to them, once.
    unsafe { OwnedFd::from_raw_fd(returned) }
}

/// What stands before the first NUL; nothing if the last byte is not one. (`CStr::from_bytes_until_nul` would look for it.)
pub(crate) fn c_str(bytes: &[u8]) -> &CStr {
    match bytes {
        // SAFETY: the last byte is a NUL, so there is a first one within.
        [.., 0] => unsafe { CStr::from_ptr(bytes.as_ptr().cast()) },
        _ => c"",
    }
}

/// openat(2), close-on-exec. `mode` is used with `CREATE`, and the umask takes away from it.
pub(crate) fn openat(directory: BorrowedFd<'_>, name: &CStr, flags: c_int, mode: u16) -> Result<OwnedFd> {
    let (directory, flags) = (directory.as_raw_fd(), flags | c::O_CLOEXEC);
    // SAFETY: `name` ends in a NUL, and the mode has the type that a variadic mode_t is promoted to.
    again(Call::Openat, || unsafe { c::openat(directory, name.as_ptr(), flags, c_int::from(mode)) }).map(owned)
}

/// mkdirat(2).
pub(crate) fn mkdirat(directory: BorrowedFd<'_>, name: &CStr, mode: u16) -> Result<()> {
    // SAFETY: `name` ends in a NUL.
    again(Call::Mkdirat, || unsafe { c::mkdirat(directory.as_raw_fd(), name.as_ptr(), mode.into()) }).map(drop)
}

/// unlinkat(2), for a file.
pub(crate) fn unlinkat(directory: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: `name` ends in a NUL.
    again(Call::Unlinkat, || unsafe { c::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

fn fcntl(fd: BorrowedFd<'_>, command: c_int, argument: c_int) -> Result<c_int> {
    // SAFETY: the commands below take an int or nothing, and no pointer.
    again(Call::Fcntl, || unsafe { c::fcntl(fd.as_raw_fd(), command, argument) })
}

/// fcntl(2) `F_DUPFD_CLOEXEC`: the same open file under the lowest free number that is not below `lowest`.
pub(crate) fn duplicate(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<OwnedFd> {
    fcntl(fd, c::F_DUPFD_CLOEXEC, lowest).map(owned)
}

/// fcntl(2) `F_SETFD`: whether exec closes the descriptor.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>, close: bool) -> Result<()> {
    fcntl(fd, c::F_SETFD, if close { c::FD_CLOEXEC } else { 0 }).map(drop)
}

/// fcntl(2) `F_GETFL`: whether it was opened for reading and writing, and a write goes where it is meant to. (With
/// `O_APPEND`, pwrite(2) on Linux does not.)
pub(crate) fn is_read_write(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = fcntl(fd, c::F_GETFL, 0)?;
    Ok(flags & (c::O_ACCMODE | c::O_APPEND) == c::O_RDWR)
}

/// Whether another open file keeps us from it. That has no name in `Errno`, and must get none: contention is never an
/// `Error::Sys`.
pub(crate) fn would_block(error: Error) -> bool {
    matches!(error, Error::Sys { errno: Errno::Other(errno), .. } if i32::from(errno) == c::EWOULDBLOCK)
}

/// The two kinds of lock of flock(2).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Kind {
    Shared = c::LOCK_SH,
    Exclusive = c::LOCK_EX,
}

fn flock(fd: BorrowedFd<'_>, operation: c_int) -> Result<()> {
    // SAFETY: it takes two ints.
    again(Call::Flock, || unsafe { c::flock(fd.as_raw_fd(), operation) }).map(drop)
}

/// flock(2) with `LOCK_NB`: whether the open file has this lock now. Has it the lock already, nothing happens.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, kind: Kind) -> Result<bool> {
    match flock(fd, kind as c_int | c::LOCK_NB) {
        Err(error) if would_block(error) => Ok(false),
        result => result.map(|()| true),
    }
}

/// flock(2): sleeps until the open file has this lock.
pub(crate) fn lock(fd: BorrowedFd<'_>, kind: Kind) -> Result<()> {
    flock(fd, kind as c_int)
}

/// flock(2) `LOCK_UN`: the open file lets go, for every descriptor of it in every process.
pub(crate) fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    flock(fd, c::LOCK_UN)
}

/// Which file it is, on this machine, for as long as somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// What we look at in a `struct stat`.
#[derive(Clone, Copy)]
pub(crate) struct Status {
    pub(crate) id: FileId,
    /// Its type and its permissions.
    mode: u32,
    pub(crate) links: u64,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) owner: u32,
}

#[allow(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    reason = "the types differ from target to target, all within 64 bits"
)]
fn status(call: Call, f: impl Fn(*mut c::stat) -> c_int) -> Result<Status> {
    let mut buffer = MaybeUninit::<c::stat>::zeroed();
    again(call, || f(buffer.as_mut_ptr()))?;
    // SAFETY: a stat is integers, for which zeros are good, and the kernel has written over them.
    let stat = unsafe { buffer.assume_init() };
    Ok(Status {
        id: FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64 },
        mode: stat.st_mode as u32,
        links: stat.st_nlink as u64,
        size: stat.st_size as u64,
        owner: stat.st_uid,
    })
}

#[allow(clippy::unnecessary_cast, reason = "as above")]
impl Status {
    pub(crate) fn is_regular(self) -> bool {
        self.mode & c::S_IFMT as u32 == c::S_IFREG as u32
    }

    pub(crate) fn is_world_writable(self) -> bool {
        self.mode & c::S_IWOTH as u32 != 0
    }
}

/// fstat(2).
pub(crate) fn fstat(fd: BorrowedFd<'_>) -> Result<Status> {
    // SAFETY: `status` passes a pointer to a stat of its own.
    status(Call::Fstat, |stat| unsafe { c::fstat(fd.as_raw_fd(), stat) })
}

/// fstatat(2), of a symbolic link itself.
pub(crate) fn fstatat(directory: BorrowedFd<'_>, name: &CStr) -> Result<Status> {
    let (directory, flags) = (directory.as_raw_fd(), c::AT_SYMLINK_NOFOLLOW);
    // SAFETY: `name` ends in a NUL, and `status` passes a pointer to a stat of its own.
    status(Call::Fstatat, |stat| unsafe { c::fstatat(directory, name.as_ptr(), stat, flags) })
}

/// pread(2) at 0: what stands at the head of the file, as far as it fits.
pub(crate) fn read_head<'b>(fd: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let (start, size) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: `start` and `size` are those of a buffer that is ours alone.
    let read = again(Call::Pread, || int(unsafe { c::pread(fd.as_raw_fd(), start.cast(), size, 0) }))?;
    Ok(buffer.get(..length(read)).unwrap_or_default())
}

/// pwrite(2): how many of the bytes were written at `offset`.
pub(crate) fn write_at(fd: BorrowedFd<'_>, bytes: &[u8], offset: u8) -> Result<usize> {
    let (start, size) = (bytes.as_ptr(), bytes.len());
    // SAFETY: `start` and `size` are those of `bytes`.
    again(Call::Pwrite, || int(unsafe { c::pwrite(fd.as_raw_fd(), start.cast(), size, offset.into()) })).map(length)
}

/// ftruncate(2): the file is this many bytes long.
pub(crate) fn truncate(fd: BorrowedFd<'_>, size: u8) -> Result<()> {
    // SAFETY: it takes two numbers.
    again(Call::Ftruncate, || unsafe { c::ftruncate(fd.as_raw_fd(), size.into()) }).map(drop)
}

/// fsync(2). A file system with nothing to flush says `EINVAL`, `EROFS` or `ENOSYS`, and that is as good as done.
pub(crate) fn sync(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: it takes an int.
    match again(Call::Fsync, || unsafe { c::fsync(fd.as_raw_fd()) }) {
        Err(Error::Sys { errno: Errno::Invalid | Errno::ReadOnlyFileSystem | Errno::NotImplemented, .. }) => Ok(()),
        result => result.map(drop),
    }
}

/// getpid(2).
pub(crate) fn getpid() -> i32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { c::getpid() }
}

/// geteuid(2).
pub(crate) fn geteuid() -> u32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { c::geteuid() }
}

/// kill(2): `signal` 0 only asks.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: it takes two ints.
    again(Call::Kill, || unsafe { c::kill(pid, signal) }).map(drop)
}

/// Nanoseconds since some moment, on the clock that nobody sets: clock_gettime(2) `CLOCK_MONOTONIC`. Enough for 584
/// years.
pub(crate) fn now() -> Result<u64> {
    let mut time = timespec(0);
    // SAFETY: the pointer is to a timespec of ours.
    again(Call::ClockGettime, || unsafe { c::clock_gettime(c::CLOCK_MONOTONIC, &raw mut time) })?;
    let seconds: u64 = time.tv_sec.try_into().unwrap_or(0);
    Ok(seconds.saturating_mul(NANOSECONDS).saturating_add(time.tv_nsec.try_into().unwrap_or(0)))
}

/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

fn timespec(nanoseconds: u64) -> c::timespec {
    // SAFETY: a timespec is integers, for which zeros are good. (Some targets have padding that cannot be named.)
    let mut time: c::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
    time.tv_sec = (nanoseconds / NANOSECONDS).try_into().unwrap_or(i32::MAX.into());
    time.tv_nsec = (nanoseconds % NANOSECONDS).try_into().unwrap_or(0);
    time
}

/// nanosleep(2). A signal handler ends it early.
pub(crate) fn sleep(nanoseconds: u64) {
    let time = timespec(nanoseconds);
    // SAFETY: `time` is valid, and the remaining time is not asked for.
    unsafe { c::nanosleep(&raw const time, core::ptr::null_mut()) };
}

/// getdents64(2): the next entries of a directory, as many as fit; none at its end.
#[cfg(proc)]
pub(crate) fn entries<'b>(directory: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let (fd, start) = (c::c_long::from(directory.as_raw_fd()), buffer.as_mut_ptr());
    // SAFETY: `start` and the length are those of a buffer that is ours alone.
    let read = again(Call::Getdents64, || int(unsafe { c::syscall(c::SYS_getdents64, fd, start, buffer.len()) }))?;
    Ok(buffer.get(..length(read)).unwrap_or_default())
}

/// `pidfd_open(2)`: a descriptor that stays with this process when its number is given to another.
#[cfg(pidfd)]
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let (pid, flags) = (c::c_long::from(pid), c::c_long::from(0));
    // SAFETY: the call takes two numbers.
    again(Call::PidfdOpen, || int(unsafe { c::syscall(c::SYS_pidfd_open, pid, flags) })).map(owned)
}

/// `pidfd_send_signal(2)`: `signal` 0 only asks.
#[cfg(pidfd)]
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let (pidfd, signal) = (c::c_long::from(pidfd.as_raw_fd()), c::c_long::from(signal));
    let (info, flags) = (core::ptr::null::<c::siginfo_t>(), c::c_long::from(0));
    // SAFETY: without a siginfo the kernel fills in what kill(2) would; the rest are numbers.
    let send = || int(unsafe { c::syscall(c::SYS_pidfd_send_signal, pidfd, signal, info, flags) });
    again(Call::PidfdSendSignal, send).map(drop)
}

/// ppoll(2): whether the process of a pidfd ends within this time. A signal handler ends it early.
#[cfg(pidfd)]
pub(crate) fn ends_within(pidfd: BorrowedFd<'_>, nanoseconds: u64) -> Result<bool> {
    let mut entry = c::pollfd { fd: pidfd.as_raw_fd(), events: c::POLLIN, revents: 0 };
    let time = timespec(nanoseconds);
    // SAFETY: one entry, a valid time, and no signal mask.
    let ready = unsafe { c::ppoll(&raw mut entry, 1, &raw const time, core::ptr::null()) };
    outcome(Call::Ppoll, ready).unwrap_or(Ok(0)).map(|ready| ready == 1)
}

/// The highest number of a signal; build.rs says it.
pub(crate) const LAST_SIGNAL: i32 = match i32::from_str_radix(env!("PIDFLOCK_LAST_SIGNAL"), 10) {
    Ok(number) => number,
    Err(_) => panic!("build.rs prints a number"),
};

// What follows is for the command alone, which has no unsafe code of its own but for making the `Arguments`.

/// The arguments of a program as C hands them to `main`.
#[derive(Clone, Copy, Debug)]
pub struct Arguments(*const *const c_char);

impl Arguments {
    /// The arguments from here on.
    ///
    /// # Safety
    /// `argv` points to pointers to strings, ended by a null pointer, that live as long as the program.
    #[must_use]
    pub const unsafe fn new(argv: *const *const c_char) -> Arguments {
        Arguments(argv)
    }

    /// Becomes the program that the first of them names, looked up in `PATH`: execvp(3). Returns only if it cannot.
    #[must_use]
    pub fn exec(mut self) -> Error {
        let (argv, nothing) = (self.0, Error::sys(Call::Exec, c::EINVAL));
        let Some(program) = self.next() else { return nothing };
        // SAFETY: `program` is a string, and `argv` is as `new` has been promised.
        again(Call::Exec, || unsafe { c::execvp(program.as_ptr(), argv) }).err().unwrap_or(nothing)
    }
}

impl Iterator for Arguments {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: it points to an element or to the null that ends them: beyond that it never goes, see below.
        let argument = unsafe { *self.0 };
        if argument.is_null() {
            return None;
        }
        self.0 = self.0.wrapping_add(1);
        // SAFETY: `new` has been promised strings that live as long as the program.
        Some(unsafe { CStr::from_ptr(argument) })
    }
}

/// A standard stream that a program prints to.
#[derive(Clone, Copy, Debug)]
pub struct Stream(RawFd);

impl Stream {
    /// Standard output.
    pub const OUT: Stream = Stream(c::STDOUT_FILENO);
    /// Standard error.
    pub const ERR: Stream = Stream(c::STDERR_FILENO);

    /// write(2): how many of the bytes went out.
    ///
    /// # Errors
    /// What the call says, `EINTR` apart.
    pub fn write(self, bytes: &[u8]) -> Result<usize> {
        let (start, size) = (bytes.as_ptr(), bytes.len());
        // SAFETY: `start` and `size` are those of `bytes`.
        again(Call::Write, || int(unsafe { c::write(self.0, start.cast(), size) })).map(length)
    }

    /// Whether it is a terminal: isatty(3).
    #[must_use]
    pub fn is_terminal(self) -> bool {
        // SAFETY: it takes an int.
        unsafe { c::isatty(self.0) == 1 }
    }
}

/// What a process does on `SIGXFSZ`, the signal for writing beyond `RLIMIT_FSIZE`.
#[derive(Clone, Copy, Debug)]
pub struct OnFileSizeSignal(c::sighandler_t);

impl OnFileSizeSignal {
    /// Nothing: the write fails with `EFBIG`, and that is all.
    pub const IGNORE: OnFileSizeSignal = OnFileSizeSignal(c::SIG_IGN);

    /// From now on this; what it was before: signal(2).
    pub fn exchange(self) -> OnFileSizeSignal {
        // SAFETY: the handler is SIG_IGN or one that this process had.
        OnFileSizeSignal(unsafe { c::signal(c::SIGXFSZ, self.0) })
    }
}
