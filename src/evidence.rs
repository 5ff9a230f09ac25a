//! What the kernel says about a process and a lock: proc_pid_fdinfo(5), proc_locks(5), proc_pid_status(5).
//!
//! A claim is not enough to direct a signal: it may be stale, forged, or a PID of another PID namespace. So this module
//! asks two sources. The descriptors of the process show which locks it has now, but reading them needs the permission
//! of ptrace(2). /proc/locks shows which process took a lock, and everybody may read it.
//!
//! Nothing here waits for another file system. Files are compared by the numbers that the kernel prints. If these do
//! not settle it, statx(2) does, without asking a server.

use crate::{failure::Failure, fd::BorrowedFd, pid::Pid, process::Process, sys::Stat};
#[cfg(proc)]
use crate::{
    failure::found,
    fd::{AsFd, AsRawFd, OwnedFd},
    pid,
    sys::{self, FileId},
};
#[cfg(proc)]
use core::ffi::CStr;

/// What the kernel says about a process and a lock.
pub(crate) struct Evidence {
    /// Whether the process has the lock. None if the kernel does not say.
    pub(crate) has_lock: Option<bool>,
    /// The real and the saved user of the process: kill(2) lets these signal it. None if the kernel does not say.
    pub(crate) users: Option<[u32; 2]>,
}

impl Evidence {
    const NONE: Evidence = Evidence { has_lock: None, users: None };

    #[cfg(not(proc))]
    pub(crate) fn find(_: &Process, _: BorrowedFd<'_>, _: &Stat) -> Result<Evidence, Failure> {
        Ok(Evidence::NONE)
    }

    /// The evidence about this process and this file, which is locked.
    #[cfg(proc)]
    pub(crate) fn find(process: &Process, file: BorrowedFd<'_>, stat: &Stat) -> Result<Evidence, Failure> {
        let Some(proc) = open_proc(sys::DIRECTORY)? else { return Ok(Evidence::NONE) };
        let proc = proc.as_fd();
        let Some(number) = number_in(proc, process)? else { return Ok(Evidence::NONE) };
        let mut target = Target::new(proc, file, stat)?;
        if process.pid().get() == sys::getpid() {
            target.look = u64::try_from(file.as_raw_fd()).ok();
        }
        let (seen, users) = match told(directory_of(proc, number))? {
            // An open directory never refers to another process, even if the PID is reused.
            Some(directory) => (told(search_process(directory.as_fd(), &target))?, users_of(directory.as_fd())?),
            None => (None, None), // hidden from us
        };
        if seen == Some(Seen::Locked) {
            return Ok(Evidence { has_lock: Some(true), users });
        }
        let has_lock = match taker_of(proc, &target, number)? {
            // It may have closed its descriptor. Or it is a new process with the PID of the one that took the lock.
            Taker::Itself { on_this_file: true } => started_before(proc, number, sys::modified(file)?)?,
            // Denied. Another container may have written its own PID 1.
            _ if seen.is_none() && process.pid() == Pid::INIT => Some(false),
            Taker::Itself { on_this_file: false } => None,
            _ if seen == Some(Seen::Nothing) => Some(false),
            // The file is open without a lock, although the kernel shows that there is one.
            Taker::Another(_) if seen == Some(Seen::Open) => Some(false),
            // Denied. After `restamp`, another process took the lock: the launcher, which may have ended.
            Taker::Another(Some(taker)) => is_alive(proc, taker, number == process.pid())?.then_some(false),
            // Denied. Or the file is open without a lock, on a file system that does not report its locks.
            Taker::Another(None) | Taker::Unknown => None,
        };
        Ok(Evidence { has_lock, users })
    }
}

/// The process that took the lock on this file and has it now, if /proc/locks and its descriptors agree. None
/// otherwise.
#[cfg(proc)]
pub(crate) fn confirmed_taker(file: BorrowedFd<'_>, stat: &Stat) -> Result<Option<Process>, Failure> {
    let Some(proc) = open_proc(sys::DIRECTORY)? else { return Ok(None) };
    let proc = proc.as_fd();
    let target = Target::new(proc, file, stat)?;
    let mut confirmed = None;
    each_lock(proc, &mut |lock| {
        let Some(number) = lock.taker.filter(|_| target.is(lock.id) != Some(false)) else { return Ok(false) };
        // Opened first, so that the process that is checked is the one that is returned.
        let Some(process) = Process::find(number)? else { return Ok(false) };
        if number_in(proc, &process)? == Some(number) {
            if let Some(directory) = told(directory_of(proc, number))? {
                if told(search_process(directory.as_fd(), &target))? == Some(Seen::Locked) {
                    confirmed = Some(process);
                }
            }
        }
        Ok(confirmed.is_some())
    })?;
    Ok(confirmed)
}

/// Calls `f` with each process that has the lock on this file now, if /proc shows its descriptors. Never calls it if
/// this /proc does not number processes as we do.
#[cfg(proc)]
pub(crate) fn each_sharer(file: BorrowedFd<'_>, stat: &Stat, f: &mut dyn FnMut(Pid)) -> Result<(), Failure> {
    let Some(proc) = open_proc(sys::LISTING)? else { return Ok(()) };
    let proc = proc.as_fd();
    if !numbers_as_we_do(proc)? {
        return Ok(());
    }
    let target = Target::new(proc, file, stat)?;
    each_entry(proc, &mut |name| {
        if let Some(number) = Pid::from_digits(name.to_bytes()) {
            if let Some(directory) = told(directory_of(proc, number))? {
                if told(search_process(directory.as_fd(), &target))? == Some(Seen::Locked) {
                    f(number);
                }
            }
        }
        Ok(false)
    })
}

#[cfg(not(proc))]
pub(crate) fn each_sharer(_: BorrowedFd<'_>, _: &Stat, _: &mut dyn FnMut(Pid)) -> Result<(), Failure> {
    Ok(())
}

#[cfg(not(proc))]
pub(crate) fn confirmed_taker(_: BorrowedFd<'_>, _: &Stat) -> Result<Option<Process>, Failure> {
    Ok(None)
}

/// Whether /proc says that a process is older than the stamp.
#[cfg(proc)]
pub(crate) fn may_have_stamped(process: &Process, file: BorrowedFd<'_>) -> Result<bool, Failure> {
    let Some(proc) = open_proc(sys::DIRECTORY)? else { return Ok(false) };
    let Some(number) = number_in(proc.as_fd(), process)? else { return Ok(false) };
    Ok(started_before(proc.as_fd(), number, sys::modified(file)?)? == Some(true))
}

#[cfg(not(proc))]
pub(crate) fn may_have_stamped(_: &Process, _: BorrowedFd<'_>) -> Result<bool, Failure> {
    Ok(false)
}

/// The user who owns a file. None if that user has no ID in our user namespace. All such users have the same number
/// here. If we have no ID either, it is also our number: user_namespaces(7).
#[cfg(proc)]
pub(crate) fn known_owner(stat: &Stat) -> Result<Option<u32>, Failure> {
    /// The default of /proc/sys/kernel/overflowuid.
    const OVERFLOW: u32 = 65534;
    if stat.owner != OVERFLOW {
        return Ok(Some(stat.owner));
    }
    // If every user has an ID, this one is an ordinary user. The map ends with the number of users that have one.
    let mut buffer = [0; INFO];
    let map = read(sys::CWD, c"/proc/self/uid_map", &mut buffer)?;
    Ok(map.trim_ascii().ends_with(b" 4294967295").then_some(OVERFLOW))
}

#[cfg(not(proc))]
pub(crate) fn known_owner(stat: &Stat) -> Result<Option<u32>, Failure> {
    Ok(Some(stat.owner))
}

/// How much to read of a file in /proc if only its first lines matter, in bytes.
#[cfg(proc)]
const INFO: usize = 512;

/// The answer of the kernel. None if it denies access, or if the entry does not exist any more. Any other error is
/// returned.
#[cfg(proc)]
fn told<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(failure) if matches!(failure.errno(), libc::ENOENT | libc::EACCES | libc::EPERM | libc::ESRCH) => Ok(None),
        result => result.map(Some),
    }
}

/// The head of a file in /proc. Empty if the kernel does not say.
#[cfg(proc)]
fn read<'b>(directory: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8], Failure> {
    let text = sys::openat(directory, name, sys::READ, 0).and_then(|file| sys::read_head(file.as_fd(), buffer));
    Ok(told(text)?.unwrap_or_default())
}

/// A name in /proc, made of words and numbers.
#[cfg(proc)]
struct Name {
    bytes: [u8; 32],
    length: usize,
}

#[cfg(proc)]
impl Name {
    fn of(number: u32, before: &str, after: &str) -> Name {
        let mut name = Name { bytes: [0; 32], length: 0 };
        name.push(before);
        let room = name.bytes.get_mut(name.length..).unwrap_or_default();
        name.length += usize::from(pid::write_decimal(number, room));
        name.push(after);
        name
    }

    fn push(&mut self, word: &str) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(word.as_bytes()) {
            *to = *from;
        }
        self.length += word.len();
    }

    fn get(&self) -> &CStr {
        sys::c_str(&self.bytes)
    }
}

/// /proc, to search it or to list it. None if it is missing or denied.
#[cfg(proc)]
fn open_proc(flags: i32) -> Result<Option<OwnedFd>, Failure> {
    told(sys::openat(sys::CWD, c"/proc", flags, 0))
}

#[cfg(proc)]
fn directory_of(proc: BorrowedFd<'_>, number: Pid) -> Result<OwnedFd, Failure> {
    sys::openat(proc, Name::of(number.as_u32(), "", "").get(), sys::DIRECTORY, 0)
}

/// Whether a process with this number exists. If this /proc numbers as we do, a zombie does not count.
#[cfg(proc)]
fn is_alive(proc: BorrowedFd<'_>, number: Pid, numbers_as_we_do: bool) -> Result<bool, Failure> {
    if numbers_as_we_do {
        Ok(Process::find(number)?.is_some())
    } else {
        Ok(told(directory_of(proc, number))?.is_some())
    }
}

/// The number that this /proc has for the process: the one in the PID namespace of its mount, which may not be ours.
/// None if it knows no such process.
#[cfg(proc)]
fn number_in(proc: BorrowedFd<'_>, process: &Process) -> Result<Option<Pid>, Failure> {
    #[cfg(pidfd)]
    if let Some(pidfd) = process.pidfd() {
        let mut buffer = [0; INFO];
        return Ok(field(own_info(proc, pidfd, &mut buffer)?, b"Pid:").and_then(Pid::from_digits));
    }
    // Without a pidfd: the same number as ours, if this /proc numbers as we do.
    Ok(numbers_as_we_do(proc)?.then_some(process.pid()))
}

/// Whether this /proc has the same number for us as we do.
#[cfg(proc)]
fn numbers_as_we_do(proc: BorrowedFd<'_>) -> Result<bool, Failure> {
    let Some(own) = Pid::new(sys::getpid()) else { return Ok(false) };
    let Some(by_number) = told(directory_of(proc, own))? else { return Ok(false) };
    let Some(by_name) = told(sys::openat(proc, c"self", sys::DIRECTORY, 0))? else { return Ok(false) };
    Ok(sys::fstat(by_number.as_fd())?.id == sys::fstat(by_name.as_fd())?.id)
}

/// What this /proc says about one of our descriptors. Empty if it does not know us.
#[cfg(proc)]
fn own_info<'b>(proc: BorrowedFd<'_>, fd: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8], Failure> {
    // Not `self`: the first thread may have ended, or may have different descriptors.
    let name = Name::of(fd.as_raw_fd().unsigned_abs(), "thread-self/fdinfo/", "");
    read(proc, name.get(), buffer)
}

/// The value of a field: the text after its name, in the first line that begins with that name.
#[cfg(proc)]
fn field<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let value = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    Some(value.trim_ascii())
}

/// The inode number in the kernel, which can differ from that of stat(2). None before Linux 5.14.
#[cfg(proc)]
fn inode_of(info: &[u8]) -> Option<u64> {
    pid::number(field(info, b"ino:")?, 10)
}

/// The numbers of the inode and of the mount of an open file, as the kernel has them. None before Linux 5.14.
#[cfg(proc)]
#[inline(never)] // so that its buffer is on the stack only while it is needed
fn inode_and_mount(proc: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<Option<(u64, u64)>, Failure> {
    let mut buffer = [0; INFO];
    let info = own_info(proc, file, &mut buffer)?;
    Ok(inode_of(info).zip(field(info, b"mnt_id:").and_then(|mount| pid::number(mount, 10))))
}

/// The real and the saved user, from `Uid:  real  effective  saved  file-system`.
#[cfg(proc)]
fn users_of(process: BorrowedFd<'_>) -> Result<Option<[u32; 2]>, Failure> {
    let mut buffer = [0; INFO];
    let text = read(process, c"status", &mut buffer)?;
    let mut users = field(text, b"Uid:").unwrap_or_default().split(|byte| *byte == b'\t');
    let mut next = || u32::try_from(pid::number(users.next()?, 10)?).ok();
    let (real, _effective, saved) = (next(), next(), next());
    Ok(real.zip(saved).map(|(real, saved)| [real, saved]))
}

/// The numbers of the locked file.
#[cfg(proc)]
struct Target {
    /// From stat(2).
    id: FileId,
    /// As the kernel prints them for a lock. None before Linux 5.14.
    kernel_id: Option<FileId>,
    /// Our own descriptor of the file, if the process is this one. The search skips it: it does not show who has the
    /// lock.
    look: Option<u64>,
}

#[cfg(proc)]
impl Target {
    fn new(proc: BorrowedFd<'_>, file: BorrowedFd<'_>, stat: &Stat) -> Result<Target, Failure> {
        let mut kernel_id = None;
        if let Some((inode, mount)) = inode_and_mount(proc, file)? {
            // A line of proc_pid_mountinfo(5) begins with the mount, its parent, and the device: `27 1 254:0 ...`.
            each_line(proc, c"thread-self/mountinfo", &mut |line| {
                let mut words = line.split(|byte| matches!(byte, b' ' | b':'));
                let found = words.next().and_then(|word| pid::number(word, 10)) == Some(mount);
                if found {
                    let mut numbers = words.skip(1).map(|word| pid::number(word, 10));
                    let device = numbers.next().flatten().zip(numbers.next().flatten());
                    kernel_id = device.map(|(major, minor)| FileId::new(major, minor, inode));
                }
                Ok(found)
            })?;
        }
        Ok(Target { id: stat.id, kernel_id, look: None })
    }

    /// Whether a lock is on this file. None if its numbers do not settle that: on btrfs and overlayfs, the kernel
    /// prints the same ones for several files.
    fn is(&self, lock: FileId) -> Option<bool> {
        if self.kernel_id.is_some_and(|id| lock != id) {
            return Some(false);
        }
        if lock == self.id { Some(true) } else { None }
    }
}

/// What a descriptor shows of the file, from least to most.
#[cfg(proc)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Nothing,
    /// It is open. No lock is shown.
    Open,
    /// It is open, with an exclusive lock.
    Locked,
}

/// Searches the descriptors of all threads: the first thread may have ended, and each may have its own descriptors.
#[cfg(proc)]
fn search_process(process: BorrowedFd<'_>, target: &Target) -> Result<Seen, Failure> {
    let mut best = search_thread(process, target)?;
    if best < Seen::Locked {
        let threads = sys::openat(process, c"task", sys::LISTING, 0)?;
        each_entry(threads.as_fd(), &mut |name| {
            if let Some(thread) = found(sys::openat(threads.as_fd(), name, sys::DIRECTORY, 0))? {
                best = best.max(search_thread(thread.as_fd(), target)?);
            }
            Ok(best == Seen::Locked)
        })?;
    }
    Ok(best)
}

/// Searches the descriptors of a thread. `fdinfo` shows their locks, and `fd` leads to their files. `fdinfo` comes
/// first, since it rules out most files.
#[cfg(proc)]
fn search_thread(thread: BorrowedFd<'_>, target: &Target) -> Result<Seen, Failure> {
    let Some(infos) = found(sys::openat(thread, c"fdinfo", sys::LISTING, 0))? else { return Ok(Seen::Nothing) };
    let files = sys::openat(thread, c"fd", sys::DIRECTORY, 0)?;
    let mut best = Seen::Nothing;
    each_entry(infos.as_fd(), &mut |name| {
        if target.look.is_some() && target.look == pid::number(name.to_bytes(), 10) {
            return Ok(false);
        }
        let mut buffer = [0; INFO];
        // The entries `.` and `..` cannot be read.
        let text = read(infos.as_fd(), name, &mut buffer).unwrap_or_default();
        let lock = text.split(|byte| *byte == b'\n').find_map(Lock::parse);
        let is_target = match &lock {
            Some(lock) => target.is(lock.id),
            None => inode_of(text).zip(target.kernel_id).filter(|(its, ours)| *its != ours.inode).map(|_| false),
        };
        let is_target = match is_target {
            Some(is_target) => is_target,
            None => leads_to(files.as_fd(), name, target.id)?,
        };
        if is_target {
            best = best.max(if lock.is_some() { Seen::Locked } else { Seen::Open });
        }
        Ok(best == Seen::Locked)
    })?;
    Ok(best)
}

/// Whether a link in /proc leads to this file. If /proc denies access, the file may be this one. If the file's own file
/// system denies access or does not answer, it is another.
#[cfg(proc)]
fn leads_to(files: BorrowedFd<'_>, name: &CStr, file: FileId) -> Result<bool, Failure> {
    let Some(link) = found(sys::openat(files, name, sys::LINK, 0))? else { return Ok(false) };
    let look = || sys::fstat(link.as_fd()).map(|stat| stat.id);
    #[cfg(statx)]
    let id = match sys::id_without_asking(link.as_fd()) {
        // Before Linux 4.11, or forbidden by a filter.
        Err(failure) if failure.is_refused_call() => look(),
        result => result,
    };
    #[cfg(not(statx))]
    let id = look();
    Ok(id.is_ok_and(|id| id == file))
}

/// A lock as /proc prints it: `1: FLOCK  ADVISORY  WRITE 4242 08:01:77 0 EOF`.
#[cfg(proc)]
struct Lock {
    /// The process that took it. None if this /proc has no number for that process.
    taker: Option<Pid>,
    id: FileId,
}

#[cfg(proc)]
impl Lock {
    /// Accepts an exclusive lock of flock(2) that is held, not waited for. (A lock of fcntl(2) is called `POSIX`.)
    fn parse(line: &[u8]) -> Option<Lock> {
        const EXCLUSIVE: &[u8] = b": FLOCK  ADVISORY  WRITE ";
        let at = line.windows(EXCLUSIVE.len()).position(|window| window == EXCLUSIVE)?;
        let mut words = line.get(at + EXCLUSIVE.len()..)?.split(|byte| matches!(byte, b' ' | b':'));
        let taker = words.next().and_then(Pid::from_digits);
        let (major, minor) = (pid::number(words.next()?, 16)?, pid::number(words.next()?, 16)?);
        Some(Lock { taker, id: FileId::new(major, minor, pid::number(words.next()?, 10)?) })
    }
}

/// The process that took the lock on a file.
#[cfg(proc)]
enum Taker {
    /// The process in question, or an older one with its number. The lock may be on another file with the same numbers.
    Itself {
        on_this_file: bool,
    },
    /// Another process. None if this /proc has no number for it.
    Another(Option<Pid>),
    Unknown,
}

/// The process that took the lock, by /proc/locks. If several locks match, that of another process counts.
#[cfg(proc)]
fn taker_of(proc: BorrowedFd<'_>, target: &Target, number: Pid) -> Result<Taker, Failure> {
    let mut taker = Taker::Unknown;
    each_lock(proc, &mut |lock| {
        let on_this_file = match target.is(lock.id) {
            Some(true) => true,
            None if target.kernel_id.is_some() => false,
            _ => return Ok(false),
        };
        if lock.taker != Some(number) {
            taker = Taker::Another(lock.taker);
        } else if on_this_file || matches!(taker, Taker::Unknown) {
            taker = Taker::Itself { on_this_file };
        }
        Ok(on_this_file)
    })?;
    Ok(taker)
}

/// Calls `f` with each lock of /proc/locks, until it returns true.
#[cfg(proc)]
fn each_lock(proc: BorrowedFd<'_>, f: &mut dyn FnMut(Lock) -> Result<bool, Failure>) -> Result<(), Failure> {
    each_line(proc, c"locks", &mut |line| Lock::parse(line).map_or(Ok(false), &mut *f))
}

/// Whether a process started before the file was stamped. One that started later reuses an old PID. None if that cannot
/// be known.
///
/// The wall clock may have been set in between, since it may be wrong when a machine starts. So this allows for some
/// difference. A stamp from before the start of the machine, on a file that is locked now, shows that the clock was
/// set.
#[cfg(proc)]
fn started_before(proc: BorrowedFd<'_>, number: Pid, stamped: i64) -> Result<Option<bool>, Failure> {
    /// In nanoseconds. The unit of times in /proc is the same on all processors.
    const TICK: u64 = 10_000_000;
    const ALLOWANCE: i64 = 2_000_000_000;
    let mut buffer = [0; INFO];
    let text = read(proc, Name::of(number.as_u32(), "", "/stat").get(), &mut buffer)?;
    // The name of the program, in parentheses, may contain blanks. The start is field 22, the 20th after that name.
    let after = text.rsplit(|byte| *byte == b')').next().unwrap_or_default();
    let start = after.trim_ascii().split(|byte| *byte == b' ').nth(19).and_then(|text| pid::number(text, 10));
    let Some(start) = start else { return Ok(None) };
    // On a 32-bit system, the wall clock may be out of range.
    let (Ok(now), Ok(up)) = (sys::now(sys::WALL), sys::now(sys::BOOT)) else { return Ok(None) };
    let booted = i64::try_from(now.saturating_sub(up)).unwrap_or(i64::MAX);
    let started = booted.saturating_add(i64::try_from(start.saturating_mul(TICK)).unwrap_or(i64::MAX));
    let latest = stamped.saturating_add(ALLOWANCE);
    Ok(if latest < booted { None } else { Some(started <= latest) })
}

/// Calls `f` with each line of a file in /proc. Stops when `f` returns true, or at a line that is longer than the
/// buffer.
#[cfg(proc)]
fn each_line(
    directory: BorrowedFd<'_>,
    name: &CStr,
    f: &mut dyn FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let Some(file) = told(sys::openat(directory, name, sys::READ, 0))? else { return Ok(()) };
    let mut buffer = [0; 4096];
    // The beginning of a line is kept: to read it again, the kernel would start over at the first line.
    let (mut offset, mut kept) = (0, 0);
    loop {
        let read = sys::read_at(file.as_fd(), buffer.get_mut(kept..).unwrap_or_default(), offset)?.len();
        if read == 0 {
            return Ok(());
        }
        offset += i32::try_from(read).unwrap_or(0);
        let filled = kept + read;
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if f(rest.get(..end).unwrap_or_default())? {
                return Ok(());
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        kept = rest.len();
        for to in 0..kept {
            let byte = buffer.get(filled - kept + to).copied().unwrap_or_default();
            if let Some(to) = buffer.get_mut(to) {
                *to = byte;
            }
        }
    }
}

/// Calls `f` with the name of each entry of a directory, until it returns true.
#[cfg(proc)]
fn each_entry(directory: BorrowedFd<'_>, f: &mut dyn FnMut(&CStr) -> Result<bool, Failure>) -> Result<(), Failure> {
    let mut buffer = [0; 1024];
    loop {
        let mut entries = sys::entries(directory, &mut buffer)?;
        if entries.is_empty() {
            return Ok(());
        }
        while let Some((name, rest)) = next_entry(entries) {
            entries = rest;
            if f(name)? {
                return Ok(());
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
