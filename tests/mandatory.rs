//! On SMB a lock is mandatory: if another process has it, flock(2) and reads fail with EACCES. A seccomp filter simulates such a
//! file system.
#![cfg(target_os = "linux")]

mod support;

use pidflock::{Call, Errno, Error, PidLock, State, Wait, probe};
use std::{
    fs,
    time::{Duration, Instant},
};
use support::*;

const FLOCK: libc::c_long = libc::SYS_flock;
const PREAD: libc::c_long = libc::SYS_pread64;

/// From now on this call fails with EACCES in this process, if its second argument has these bits.
fn refuse(call: libc::c_long, bits: i32) {
    let second = 16 + 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let bits = bits.unsigned_abs();
    let mut program = [
        step(load, 0, 0, 0),
        step(equal, 0, 4, u32::try_from(call).unwrap()),
        step(load, 0, 0, second),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, bits),
        step(equal, 0, 1, bits),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EACCES.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, 0);
}

/// Runs in a child for which these calls fail, beside a file that reads as 4242.
fn beside(refused: &[(libc::c_long, i32)], work: impl FnOnce(&'static str)) {
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    fs::write(path, "4242\n").unwrap();
    let child = fork(|| {
        panic_aloud();
        refused.iter().for_each(|(call, bits)| refuse(*call, *bits));
        work(path);
        0
    });
    assert_eq!(child.wait(), End::Exit(0));
    assert_eq!(fs::read_to_string(path).unwrap(), "4242\n");
}

const HELD: Option<Error> = Some(Error::AlreadyLocked { holder: None });

#[test]
fn a_mandatory_lock_of_another_is_contention() {
    beside(&[(FLOCK, libc::LOCK_NB), (PREAD, 0)], |path| {
        assert_eq!(PidLock::acquire(path).err(), HELD);
        assert_eq!(probe(path), Ok(State::Held { holder: None }));
        let start = Instant::now();
        let wait = Wait::For(Duration::from_millis(50));
        assert_eq!(PidLock::options().wait(wait).acquire(path).err(), HELD);
        assert!(start.elapsed() >= Duration::from_millis(50));
    });
}

#[test]
fn a_shared_mandatory_lock_of_another_is_contention() {
    beside(&[(FLOCK, libc::LOCK_EX | libc::LOCK_NB)], |path| {
        let start = Instant::now();
        assert_eq!(PidLock::acquire(path).err(), HELD);
        assert!(start.elapsed() >= Duration::from_millis(90), "a shared lock is looked at again");
    });
}

#[test]
fn forbidden_locks_are_not_contention() {
    beside(&[(FLOCK, libc::LOCK_NB)], |path| {
        let forbidden = Error::Sys { call: Call::Flock, errno: Errno::PermissionDenied };
        assert_eq!(PidLock::acquire(path).err(), Some(forbidden));
        assert_eq!(probe(path), Err(forbidden));
        let wait = Wait::For(Duration::from_millis(50));
        assert_eq!(PidLock::options().wait(wait).acquire(path).err(), Some(forbidden));
    });
}
