//! The system calls: one small safe function each, which handles `EINTR` and `errno` and decides nothing.
//!
//! -1 becomes a `Failure` with the call and its `errno`, which is read only then. `retry_on_eintr` repeats an
//! interrupted call. Three calls are not repeated: the two that sleep for a time, and close(2), which is not here,
//! since descriptors close themselves on drop.

use crate::{
    error::{Call, Errno},
    failure::Failure,
    fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};
use core::{
    ffi::{CStr, c_int},
    mem::MaybeUninit,
};

/// libc, with the large-file calls instead of the small-file calls of 32-bit glibc and uClibc.
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
    /// The systems name the nanoseconds differently.
    pub(super) fn mtime_nsec(stat: &stat) -> c_long {
        #[cfg(target_os = "netbsd")]
        return stat.st_mtimensec;
        #[cfg(not(target_os = "netbsd"))]
        stat.st_mtime_nsec
    }
    #[cfg(large_file_calls)]
    pub(super) use libc::{
        fstat64 as fstat, fstatat64 as fstatat, ftruncate64 as ftruncate, openat64 as openat, pread64 as pread,
        pwrite64 as pwrite, stat64 as stat,
    };
}

type Result<T> = core::result::Result<T, Failure>;

/// The working directory, for use as an open directory.
// SAFETY: a borrowed descriptor must stay open and must not be -1. AT_FDCWD is another negative number and no
// descriptor: no code can close it, and the *at calls accept it.
pub(crate) const CWD: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(c::AT_FDCWD) };

/// For a directory. Needs search permission only, not read, if the kernel has `O_PATH`.
#[cfg(o_path)]
pub(crate) const DIRECTORY: c_int = c::O_PATH | c::O_DIRECTORY;
#[cfg(not(o_path))]
pub(crate) const DIRECTORY: c_int = c::O_RDONLY | c::O_DIRECTORY;

/// For listing a directory.
#[cfg(proc)]
pub(crate) const LISTING: c_int = c::O_RDONLY | c::O_DIRECTORY;

/// For the target of a link in /proc, without asking its file system.
#[cfg(proc)]
pub(crate) const LINK: c_int = c::O_PATH;

/// For a file of unknown type. Does not follow a symbolic link, wait for the other end of a FIFO, or acquire a
/// controlling terminal. Never `O_TRUNC`: the content belongs to the holder.
pub(crate) const READ: c_int = c::O_RDONLY | c::O_NOFOLLOW | c::O_NONBLOCK | c::O_NOCTTY;
pub(crate) const READ_WRITE: c_int = c::O_RDWR | c::O_NOFOLLOW | c::O_NONBLOCK | c::O_NOCTTY;
pub(crate) const CREATE: c_int = READ_WRITE | c::O_CREAT | c::O_EXCL;

impl Errno {
    /// Why the last call of the C library failed, in this thread. Like std's `last_os_error`, for programs without std
    /// that make system calls themselves, such as `execv` after [`hand_over`](crate::PidLock::hand_over).
    ///
    /// Valid only right after a call that reported a failure: errno(3).
    #[must_use]
    pub fn last_os_error() -> Errno {
        Errno::from_raw(errno())
    }
}

fn errno() -> c_int {
    // SAFETY: the function takes nothing and returns the address of this thread's errno.
    let errno = unsafe { c::errno_location() };
    // SAFETY: that address is valid and ours for as long as the thread runs.
    unsafe { *errno }
}

/// Why a call returned -1. None if a signal interrupted it.
fn failure(call: Call) -> Option<Failure> {
    let errno = errno();
    (errno != c::EINTR).then(|| Failure::of(call, errno))
}

/// Repeats the call while a signal interrupts it.
fn retry_on_eintr(call: Call, mut f: impl FnMut() -> c_int) -> Result<c_int> {
    loop {
        let returned = f();
        if returned != -1 {
            return Ok(returned);
        }
        if let Some(failure) = failure(call) {
            return Err(failure);
        }
    }
}

/// Converts the result of a call that returns a `long` or an `ssize_t`: -1, a descriptor, or a length within our
/// buffer.
#[inline(never)] // calling this takes fewer bytes than a conversion in each function below
fn as_c_int(returned: impl TryInto<c_int>) -> c_int {
    returned.try_into().unwrap_or(c_int::MAX)
}

/// The length that a call returned.
fn ret_usize(returned: c_int) -> usize {
    returned.unsigned_abs() as usize
}

/// The descriptor that a call returned.
///
/// # Safety
/// `returned` is open, and no other value owns it.
unsafe fn ret_owned_fd(returned: c_int) -> OwnedFd {
    // SAFETY: the caller promises what `from_raw_fd` asks for.
    unsafe { OwnedFd::from_raw_fd(returned) }
}

/// The C string at the head of a buffer that ends in a NUL. An empty string for any other buffer.
pub(crate) fn c_str(buffer: &[u8]) -> &CStr {
    match buffer.last() {
        // SAFETY: there is a NUL within the buffer, which is borrowed for as long as the result.
        Some(0) => unsafe { CStr::from_ptr(buffer.as_ptr().cast()) },
        _ => c"",
    }
}

/// openat(2), close-on-exec. `mode` applies to `CREATE`, less the umask.
pub(crate) fn openat(directory: BorrowedFd<'_>, name: &CStr, flags: c_int, mode: u16) -> Result<OwnedFd> {
    let (directory, flags) = (directory.as_raw_fd(), flags | c::O_CLOEXEC);
    // SAFETY: `name` ends in a NUL, and the mode has the type that a variadic mode_t is promoted to.
    let open = || unsafe { c::openat(directory, name.as_ptr(), flags, c_int::from(mode)) };
    // SAFETY: the kernel has just opened it for us.
    retry_on_eintr(Call::Openat, open).map(|fd| unsafe { ret_owned_fd(fd) })
}

/// mkdirat(2).
pub(crate) fn mkdirat(directory: BorrowedFd<'_>, name: &CStr, mode: u16) -> Result<()> {
    // SAFETY: `name` ends in a NUL.
    retry_on_eintr(Call::Mkdirat, || unsafe { c::mkdirat(directory.as_raw_fd(), name.as_ptr(), mode.into()) }).map(drop)
}

/// unlinkat(2), for a file.
pub(crate) fn unlinkat(directory: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: `name` ends in a NUL.
    retry_on_eintr(Call::Unlinkat, || unsafe { c::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

fn fcntl(fd: BorrowedFd<'_>, command: c_int, argument: c_int) -> Result<c_int> {
    // SAFETY: the commands below take an int or nothing, and no pointer.
    retry_on_eintr(Call::Fcntl, || unsafe { c::fcntl(fd.as_raw_fd(), command, argument) })
}

/// fcntl(2) `F_DUPFD_CLOEXEC`: the same open file, under the lowest free number from `lowest` on.
pub(crate) fn duplicate(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<OwnedFd> {
    // SAFETY: the kernel has just made it for us.
    fcntl(fd, c::F_DUPFD_CLOEXEC, lowest).map(|fd| unsafe { ret_owned_fd(fd) })
}

/// The lowest number for a descriptor that outlives a call. A daemon may be started with 0, 1 and 2 closed. What it
/// then prints, or maps to /dev/null, must not hit the lock.
pub(crate) const LOWEST_FD: RawFd = 3;

/// The same open file under a number that no standard stream has.
pub(crate) fn above_standard_streams(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() < LOWEST_FD { duplicate(fd.as_fd(), LOWEST_FD) } else { Ok(fd) }
}

/// fcntl(2) `F_SETFD`: sets whether exec closes the descriptor.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>, close: bool) -> Result<()> {
    fcntl(fd, c::F_SETFD, if close { c::FD_CLOEXEC } else { 0 }).map(drop)
}

/// fcntl(2) `F_GETFL`: whether the file was opened for reading and writing, without `O_APPEND`. (With `O_APPEND`,
/// pwrite(2) on Linux ignores its offset.)
pub(crate) fn is_read_write(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = fcntl(fd, c::F_GETFL, 0)?;
    Ok(flags & (c::O_ACCMODE | c::O_APPEND) == c::O_RDWR)
}

/// The two locks of flock(2).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum LockKind {
    Shared = c::LOCK_SH,
    Exclusive = c::LOCK_EX,
}

fn flock(fd: BorrowedFd<'_>, operation: c_int) -> Result<()> {
    // SAFETY: it takes two ints.
    retry_on_eintr(Call::Flock, || unsafe { c::flock(fd.as_raw_fd(), operation) }).map(drop)
}

/// flock(2) with `LOCK_NB`: whether the open file has this lock now. No effect if it already had it.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, kind: LockKind) -> Result<bool> {
    match flock(fd, kind as c_int | c::LOCK_NB) {
        Err(failure) if failure.errno() == c::EWOULDBLOCK => Ok(false),
        result => result.map(|()| true),
    }
}

/// flock(2): sleeps until the open file has this lock.
pub(crate) fn lock(fd: BorrowedFd<'_>, kind: LockKind) -> Result<()> {
    flock(fd, kind as c_int)
}

/// flock(2) `LOCK_UN`: unlocks the open file, for every descriptor of it in every process. With `LOCK_NB`: without it,
/// Linux sends a FUSE server a request that waits, which some servers do not know.
pub(crate) fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    flock(fd, c::LOCK_UN | c::LOCK_NB)
}

/// Identifies a file on this machine, while some process has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    pub(crate) inode: u64,
}

#[cfg(proc)]
impl FileId {
    /// From the numbers that the kernel prints. `st_dev` has the same bits in another order: makedev(3).
    pub(crate) fn new(major: u64, minor: u64, inode: u64) -> FileId {
        let device = (major & !0xfff) << 32 | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (minor & 0xff);
        FileId { device, inode }
    }
}

/// The fields of `struct stat` that we use.
#[derive(Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) id: FileId,
    /// The type and the permissions.
    mode: u32,
    pub(crate) links: u64,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) owner: u32,
}

fn stat(call: Call, f: impl Fn(*mut c::stat) -> c_int) -> Result<c::stat> {
    let mut buffer = MaybeUninit::<c::stat>::zeroed();
    retry_on_eintr(call, || f(buffer.as_mut_ptr()))?;
    // SAFETY: a stat is integers, for which zeros are valid, and the kernel has filled them in.
    Ok(unsafe { buffer.assume_init() })
}

#[allow(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    reason = "the types differ from target to target, all within 64 bits"
)]
impl From<c::stat> for Stat {
    fn from(stat: c::stat) -> Stat {
        Stat {
            id: FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64 },
            mode: stat.st_mode as u32,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            owner: stat.st_uid,
        }
    }
}

#[allow(clippy::unnecessary_cast, reason = "as above")]
impl Stat {
    pub(crate) fn is_regular(self) -> bool {
        self.mode & c::S_IFMT as u32 == c::S_IFREG as u32
    }

    /// Whether the file has exactly these permission bits.
    pub(crate) fn has_mode(self, mode: u16) -> bool {
        self.mode & 0o7777 == mode.into()
    }

    pub(crate) fn is_writable_by_all(self) -> bool {
        self.mode & c::S_IWOTH as u32 != 0
    }

    /// Whether users other than the owner may have written it. (The group bits show the mask of an access control list:
    /// acl(5).)
    pub(crate) fn is_writable_by_others(self) -> bool {
        self.mode & (c::S_IWGRP | c::S_IWOTH) as u32 != 0
    }
}

/// fstat(2).
pub(crate) fn fstat(fd: BorrowedFd<'_>) -> Result<Stat> {
    #[cfg(wide_stat)]
    if let Some(result) = unless_refused(statx(Call::Fstat, fd, c"", c::AT_EMPTY_PATH)) {
        return result.map(Stat::from);
    }
    stat_of(fd).map(Stat::from)
}

fn stat_of(fd: BorrowedFd<'_>) -> Result<c::stat> {
    // SAFETY: `stat` passes a pointer to its own stat.
    stat(Call::Fstat, |buffer| unsafe { c::fstat(fd.as_raw_fd(), buffer) })
}

/// fstat(2): when the content last changed, in nanoseconds of the wall clock.
#[allow(clippy::unnecessary_cast, reason = "as above")]
pub(crate) fn modified(fd: BorrowedFd<'_>) -> Result<i64> {
    #[cfg(wide_stat)]
    if let Some(result) = unless_refused(statx(Call::Fstat, fd, c"", c::AT_EMPTY_PATH)) {
        return result.map(|statx| nanoseconds(statx.modified, statx.modified_nanoseconds.into()));
    }
    let stat = stat_of(fd)?;
    Ok(nanoseconds(stat.st_mtime as i64, c::mtime_nsec(&stat) as i64))
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// fstatat(2), without following a symbolic link.
pub(crate) fn fstatat(directory: BorrowedFd<'_>, name: &CStr) -> Result<Stat> {
    #[cfg(wide_stat)]
    if let Some(result) = unless_refused(statx(Call::Fstatat, directory, name, c::AT_SYMLINK_NOFOLLOW)) {
        return result.map(Stat::from);
    }
    let (directory, flags) = (directory.as_raw_fd(), c::AT_SYMLINK_NOFOLLOW);
    // SAFETY: `name` ends in a NUL, and `stat` passes a pointer to its own stat.
    stat(Call::Fstatat, |buffer| unsafe { c::fstatat(directory, name.as_ptr(), buffer, flags) }).map(Stat::from)
}

/// None if the kernel refuses this call. Then the caller uses the one with the narrower struct, as the C library does.
#[cfg(wide_stat)]
fn unless_refused<T>(result: Result<T>) -> Option<Result<T>> {
    (!result.as_ref().is_err_and(|failure| failure.is_refused_call())).then_some(result)
}

/// `struct statx`. Not every C library has it.
#[cfg(statx)]
#[repr(C)]
struct Statx {
    before_links: [u32; 4],
    links: u32,
    owner: u32,
    group: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    before_modified: [u64; 8],
    modified: i64,
    modified_nanoseconds: u32,
    before_device: [u32; 3],
    major: u32,
    minor: u32,
    rest: [u64; 14],
}

#[cfg(statx)]
impl Statx {
    fn id(&self) -> FileId {
        FileId::new(self.major.into(), self.minor.into(), self.inode)
    }
}

#[cfg(wide_stat)]
impl From<Statx> for Stat {
    fn from(statx: Statx) -> Stat {
        Stat {
            id: statx.id(),
            mode: statx.mode.into(),
            links: statx.links.into(),
            size: statx.size,
            owner: statx.owner,
        }
    }
}

/// statx(2), in place of another call.
#[cfg(statx)]
fn statx(call: Call, fd: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<Statx> {
    const _: () = assert!(size_of::<Statx>() == 256);
    const BASIC_STATS: c::c_long = 0x7ff;
    let mut buffer = MaybeUninit::<Statx>::zeroed();
    let (fd, flags) = (c::c_long::from(fd.as_raw_fd()), c::c_long::from(flags));
    let (name, start) = (name.as_ptr(), buffer.as_mut_ptr());
    // SAFETY: `name` ends in a NUL, and the kernel writes 256 bytes, the size of the buffer.
    let look = || as_c_int(unsafe { c::syscall(c::SYS_statx, fd, name, flags, BASIC_STATS, start) });
    retry_on_eintr(call, look)?;
    // SAFETY: the struct is integers, for which zeros are valid, and the kernel has filled them in.
    Ok(unsafe { buffer.assume_init() })
}

/// statx(2): the identity of the file as the kernel knows it, without asking a server.
#[cfg(statx)]
pub(crate) fn id_without_asking(fd: BorrowedFd<'_>) -> Result<FileId> {
    const SYNC_TYPE_DONT_SYNC: c_int = 0x4000;
    statx(Call::Fstat, fd, c"", c::AT_EMPTY_PATH | SYNC_TYPE_DONT_SYNC).map(|statx| statx.id())
}

/// pread(2) at 0: as much of the file as fits.
pub(crate) fn read_head<'b>(fd: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    read_at(fd, buffer, 0)
}

/// pread(2) at `offset`: as much of the file as fits.
pub(crate) fn read_at<'b>(fd: BorrowedFd<'_>, buffer: &'b mut [u8], offset: i32) -> Result<&'b [u8]> {
    let (start, size) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: `start` and `size` are those of a buffer that is ours alone.
    let read = || as_c_int(unsafe { c::pread(fd.as_raw_fd(), start.cast(), size, offset.into()) });
    let read = retry_on_eintr(Call::Pread, read)?;
    Ok(buffer.get(..ret_usize(read)).unwrap_or_default())
}

/// pwrite(2) at `offset`: writes at most 255 bytes, and returns how many it wrote.
pub(crate) fn write_at(fd: BorrowedFd<'_>, bytes: &[u8], offset: u8) -> Result<u8> {
    let (start, size) = (bytes.as_ptr(), bytes.len());
    // SAFETY: `start` and `size` are those of `bytes`.
    let write = || as_c_int(unsafe { c::pwrite(fd.as_raw_fd(), start.cast(), size, offset.into()) });
    retry_on_eintr(Call::Pwrite, write).map(|written| written.try_into().unwrap_or(u8::MAX))
}

/// ftruncate(2): makes the file this many bytes long.
pub(crate) fn truncate(fd: BorrowedFd<'_>, size: u8) -> Result<()> {
    // SAFETY: it takes two numbers.
    retry_on_eintr(Call::Ftruncate, || unsafe { c::ftruncate(fd.as_raw_fd(), size.into()) }).map(drop)
}

/// fchmod(2).
pub(crate) fn fchmod(fd: BorrowedFd<'_>, mode: u16) -> Result<()> {
    // SAFETY: it takes two numbers.
    retry_on_eintr(Call::Fchmod, || unsafe { c::fchmod(fd.as_raw_fd(), mode.into()) }).map(drop)
}

/// fsync(2).
pub(crate) fn sync(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: it takes an int.
    retry_on_eintr(Call::Fsync, || unsafe { c::fsync(fd.as_raw_fd()) }).map(drop)
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

/// kill(2): `signal` 0 only checks.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: it takes two ints.
    retry_on_eintr(Call::Kill, || unsafe { c::kill(pid, signal) }).map(drop)
}

/// A clock of clock_gettime(2).
pub(crate) type Clock = c::clockid_t;

/// The clock that is never set.
pub(crate) const MONOTONIC: Clock = c::CLOCK_MONOTONIC;

/// The wall clock.
#[cfg(proc)]
pub(crate) const WALL: Clock = c::CLOCK_REALTIME;

/// The clock that starts with the machine, and runs while the machine sleeps.
#[cfg(proc)]
pub(crate) const BOOT: Clock = c::CLOCK_BOOTTIME;

/// clock_gettime(2): nanoseconds since the clock's start. Saturates after 584 years.
pub(crate) fn now(clock: Clock) -> Result<u64> {
    let mut time = timespec(0);
    // SAFETY: the pointer is to our own timespec.
    retry_on_eintr(Call::ClockGettime, || unsafe { c::clock_gettime(clock, &raw mut time) })?;
    let seconds: u64 = time.tv_sec.try_into().unwrap_or(0);
    Ok(seconds.saturating_mul(NANOSECONDS).saturating_add(time.tv_nsec.try_into().unwrap_or(0)))
}

/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

fn timespec(nanoseconds: u64) -> c::timespec {
    // SAFETY: a timespec is integers, for which zeros are valid. (Some targets have padding that cannot be named.)
    let mut time: c::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
    time.tv_sec = (nanoseconds / NANOSECONDS).try_into().unwrap_or(i32::MAX.into());
    time.tv_nsec = (nanoseconds % NANOSECONDS).try_into().unwrap_or(0);
    time
}

/// nanosleep(2). A signal handler ends it early.
pub(crate) fn sleep(nanoseconds: u64) {
    let time = timespec(nanoseconds);
    // SAFETY: `time` is valid, and the null pointer asks for no remaining time.
    unsafe { c::nanosleep(&raw const time, core::ptr::null_mut()) };
}

/// getdents64(2): the next entries of a directory, as many as fit. Empty at its end.
#[cfg(proc)]
pub(crate) fn entries<'b>(directory: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    let (fd, start) = (c::c_long::from(directory.as_raw_fd()), buffer.as_mut_ptr());
    // SAFETY: `start` and the length are those of a buffer that is ours alone.
    let list = || as_c_int(unsafe { c::syscall(c::SYS_getdents64, fd, start, buffer.len()) });
    let read = retry_on_eintr(Call::Getdents64, list)?;
    Ok(buffer.get(..ret_usize(read)).unwrap_or_default())
}

/// `pidfd_open(2)`: a descriptor that never refers to another process, even if the PID is reused.
#[cfg(pidfd)]
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let (pid, flags) = (c::c_long::from(pid), c::c_long::from(0));
    // SAFETY: the call takes two numbers.
    let open = || as_c_int(unsafe { c::syscall(c::SYS_pidfd_open, pid, flags) });
    // SAFETY: the kernel has just opened it for us.
    retry_on_eintr(Call::PidfdOpen, open).map(|fd| unsafe { ret_owned_fd(fd) })
}

/// `pidfd_send_signal(2)`: `signal` 0 only checks.
#[cfg(pidfd)]
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let (pidfd, signal) = (c::c_long::from(pidfd.as_raw_fd()), c::c_long::from(signal));
    let (info, flags) = (core::ptr::null::<c::siginfo_t>(), c::c_long::from(0));
    // SAFETY: without a siginfo, the kernel fills in what kill(2) would. The rest are numbers.
    let send = || as_c_int(unsafe { c::syscall(c::SYS_pidfd_send_signal, pidfd, signal, info, flags) });
    retry_on_eintr(Call::PidfdSendSignal, send).map(drop)
}

/// ppoll(2): whether the process of a pidfd ends within this time. A signal handler ends it early.
#[cfg(pidfd)]
pub(crate) fn ends_within(pidfd: BorrowedFd<'_>, nanoseconds: u64) -> Result<bool> {
    let mut entry = c::pollfd { fd: pidfd.as_raw_fd(), events: c::POLLIN, revents: 0 };
    let time = timespec(nanoseconds);
    // SAFETY: one entry, a valid time, and no signal mask.
    let ready = unsafe { c::ppoll(&raw mut entry, 1, &raw const time, core::ptr::null()) };
    match ready {
        -1 => failure(Call::Ppoll).map_or(Ok(false), Err),
        ready => Ok(ready == 1),
    }
}
