//! Processes: fork, pin, and the clock that they share.

use std::{
    fs, io, mem,
    os::fd::FromRawFd,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

pub fn fork(work: impl FnOnce() -> i32) -> i32 {
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let code = work();
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

pub fn kill(pid: i32) {
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

pub fn reap(pid: i32) {
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
}

/// A pipe: its end to read from, and its end to write to. Exec closes both.
pub fn pipe() -> (fs::File, fs::File) {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "{}", io::Error::last_os_error());
    ends.map(|end| unsafe { fs::File::from_raw_fd(end) }).into()
}

/// Nanoseconds on CLOCK_MONOTONIC, which all processes share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Keeps this process and its children on one processor: a batch that moves to another finds cold caches.
pub fn pinned<T>(work: impl FnOnce() -> T) -> T {
    let all = affinity();
    let last = (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| unsafe { libc::CPU_ISSET(*cpu, &all) });
    let mut one: libc::cpu_set_t = unsafe { mem::zeroed() };
    unsafe { libc::CPU_SET(last.expect("a processor"), &mut one) };
    set_affinity(&one);
    let result = work();
    set_affinity(&all);
    result
}

fn affinity() -> libc::cpu_set_t {
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    assert_eq!(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) }, 0);
    set
}

fn set_affinity(set: &libc::cpu_set_t) {
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(set), set) }, 0);
}

/// Allows as many descriptors as the machine does.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max;
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Zeros that forked children share.
pub fn shared(length: usize) -> &'static [AtomicUsize] {
    let bytes = length * size_of::<AtomicUsize>();
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "{}", io::Error::last_os_error());
    let shared = unsafe { std::slice::from_raw_parts(memory.cast::<AtomicUsize>(), length) };
    debug_assert!(shared.iter().all(|number| number.load(Relaxed) == 0));
    shared
}
