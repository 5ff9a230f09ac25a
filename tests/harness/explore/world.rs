//! The kernel's state, as far as the steps depend on it: inodes, locks, the name, descriptors, which processes live.
//!
//! Inodes, names and whether a lock can be had: the kernel is asked, through /proc and flock(2). Which process has
//! which lock: noted in `book`, from the calls that it makes.

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    sync::LazyLock,
};

/// In place of an inode: the descriptor is not open, or leads to another file system such as /proc.
pub const ELSEWHERE: u64 = 0;

/// The first PID that the kernel does not use. It starts over with small numbers there.
pub static PID_MAX: LazyLock<i32> =
    LazyLock::new(|| fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap());

/// What a step needs to know of the process that is about to make it.
pub trait Asked {
    /// The inode behind a descriptor.
    fn inode(&mut self, fd: i32) -> u64;
    /// The same, for a descriptor that is about to be closed.
    fn inode_to_be_closed(&mut self, fd: i32) -> u64;
    /// The process behind a pidfd; -1 once it is dead and reaped.
    fn target(&self, pidfd: i32) -> i32;
    /// Up to `length` bytes of its memory: as many as are mapped.
    fn bytes(&self, address: u64, length: usize) -> Vec<u8>;

    /// An int in its memory.
    fn word(&self, address: u64) -> i32 {
        i32::from_ne_bytes(self.bytes(address, 4).try_into().unwrap())
    }
}

/// One process, as the kernel has it.
pub struct Task {
    pid: i32,
    /// The file system of the lock file.
    device: u64,
    /// The inodes behind its descriptors, as far as they were asked for.
    inodes: BTreeMap<i32, u64>,
}

impl Task {
    pub fn new(pid: i32, device: u64) -> Task {
        Task { pid, device, inodes: BTreeMap::new() }
    }

    /// The nanoseconds in a timespec in its memory.
    pub fn nanoseconds(&self, address: u64) -> i64 {
        let bytes = self.bytes(address, 16);
        let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        word(0) * 1_000_000_000 + word(8)
    }
}

impl Asked for Task {
    /// The answer stays true until `close`, the only call that frees a number.
    fn inode(&mut self, fd: i32) -> u64 {
        let ask = || match fs::metadata(format!("/proc/{}/fd/{fd}", self.pid)) {
            Ok(metadata) if metadata.dev() == self.device => metadata.ino(),
            _ => ELSEWHERE,
        };
        *self.inodes.entry(fd).or_insert_with(ask)
    }

    fn inode_to_be_closed(&mut self, fd: i32) -> u64 {
        let inode = self.inode(fd);
        self.inodes.remove(&fd);
        inode
    }

    fn target(&self, pidfd: i32) -> i32 {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{pidfd}", self.pid)).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap();
        line.trim().parse().unwrap()
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; length];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: length };
        let read = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        bytes.truncate(read.try_into().unwrap_or(0));
        bytes
    }
}

/// The name, and every file that had it in this run.
pub struct Files {
    path: String,
    /// Opened here as well, by inode, to ask for their locks and to read them.
    opened: BTreeMap<u64, fs::File>,
}

impl Files {
    pub fn at(path: &str) -> Files {
        Files { path: path.into(), opened: BTreeMap::new() }
    }

    /// The inode that the name leads to, if there is one.
    pub fn named(&self) -> Option<u64> {
        fs::symlink_metadata(&self.path).ok().map(|metadata| metadata.ino())
    }

    /// The content of the file that the name leads to, if there is one.
    pub fn named_content(&self) -> Option<Vec<u8>> {
        fs::read(&self.path).ok()
    }

    /// The content of the file behind a descriptor of this process: the first 4 KiB.
    pub fn content(&mut self, task: &mut Task, fd: i32) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let length = self.opened(task, fd).read_at(&mut bytes, 0).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// Whether a new open file would get this lock on the file behind a descriptor of this process.
    pub fn could_lock(&mut self, task: &mut Task, fd: i32, operation: i32) -> bool {
        let file = self.opened(task, fd).as_raw_fd();
        let could = unsafe { libc::flock(file, operation | libc::LOCK_NB) } == 0;
        unsafe { libc::flock(file, libc::LOCK_UN) };
        could
    }

    fn opened(&mut self, task: &mut Task, fd: i32) -> &fs::File {
        let path = format!("/proc/{}/fd/{fd}", task.pid);
        self.opened.entry(task.inode(fd)).or_insert_with(|| fs::File::open(path).unwrap())
    }
}
