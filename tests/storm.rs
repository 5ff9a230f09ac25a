//! All properties at once: processes that acquire, count and release, under random kills, among forked copies, probers,
//! scanners with shared locks, and a cleaner that locks before it removes.
//!
//! Each holder adds one to a number in a file, by reading and writing it. Two holders at once would lose an
//! addition. Ten seconds; ci/storm runs it for longer and with more processes.
#![cfg(target_os = "linux")]

mod support;

use pidflock::{Error, PidLock, Wait};
use std::{
    fs::{self, File},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};
use support::*;

/// The memory that all processes share.
struct Shared {
    /// The process in the critical section, or 0.
    inside: AtomicI32,
    /// The expected number in the file.
    count: AtomicU64,
    refused: AtomicU64,
    probes: AtomicU64,
    scans: AtomicU64,
    cleaned: AtomicU64,
    copies: AtomicU64,
    stop: AtomicI32,
    /// The processes that were killed last, noted just before.
    killed: [AtomicI32; 64],
}

fn shared() -> &'static Shared {
    let (read_write, anonymous) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), read_write, anonymous, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    unsafe { &*memory.cast() } // zeros are valid atomics
}

/// A small generator (xorshift), so that a seed identifies a run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The critical section: adds one, and checks that no other process is in it.
fn count(shared: &Shared, number: &File) {
    let me = std::process::id() as i32;
    let before = shared.inside.swap(me, SeqCst);
    let killed = before != 0;
    assert!(
        !killed || shared.killed.iter().any(|pid| pid.load(SeqCst) == before),
        "process {before} and process {me} hold the name at once"
    );
    let mut bytes = [0; 8];
    number.read_exact_at(&mut bytes, 0).unwrap();
    let read = u64::from_ne_bytes(bytes);
    let expected = shared.count.load(SeqCst);
    // A holder killed between the two writes below has added one only to `count`.
    assert!(read == expected || (killed && read + 1 == expected), "{read} in the file, and {expected} were added");
    shared.count.store(read + 1, SeqCst);
    number.write_all_at(&(read + 1).to_ne_bytes(), 0).unwrap();
    assert_eq!(shared.inside.swap(0, SeqCst), me, "another holds the name at once");
}

fn worker(shared: &Shared, file: &str, number: &File, seed: u64) -> i32 {
    let mut random = Random(seed);
    while shared.stop.load(SeqCst) == 0 {
        let wait = match random.below(3) {
            0 => Wait::Never,
            1 => Wait::For(Duration::from_millis(20)),
            _ => Wait::Forever,
        };
        let options = PidLock::options().sync(false).remove_on_release(random.below(4) != 0).wait(wait);
        let lock = match options.acquire(file) {
            Ok(lock) => lock,
            Err(Error::AlreadyLocked { .. }) => {
                shared.refused.fetch_add(1, SeqCst);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let copy = (random.below(8) == 0).then(|| unsafe { libc::fork() });
        if copy == Some(0) {
            drop(lock); // only closes
            unsafe { libc::_exit(0) }
        }
        count(shared, number);
        match random.below(4) {
            0 => drop(lock),
            1 => {
                // Closed and not released, as by a death.
                lock.disown();
            }
            _ => lock.release().unwrap(),
        }
        if let Some(copy) = copy {
            shared.copies.fetch_add(1, SeqCst);
            wait_for(copy);
        }
    }
    0
}

fn prober(shared: &Shared, file: &str) -> i32 {
    while shared.stop.load(SeqCst) == 0 {
        pidflock::probe(file).unwrap();
        shared.probes.fetch_add(1, SeqCst);
        unsafe { libc::usleep(200) };
    }
    0
}

/// Holds a shared lock for a moment, as a file-system scanner does.
fn scanner(shared: &Shared, file: &str) -> i32 {
    while shared.stop.load(SeqCst) == 0 {
        if let Ok(open) = File::open(file) {
            if unsafe { libc::flock(open.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0 {
                unsafe { libc::usleep(50) };
                shared.scans.fetch_add(1, SeqCst);
            }
        }
        unsafe { libc::usleep(3000) };
    }
    0
}

/// Removes the file if nobody holds it, as systemd-tmpfiles does.
fn cleaner(shared: &Shared, file: &str) -> i32 {
    while shared.stop.load(SeqCst) == 0 {
        if let Ok(open) = File::open(file) {
            let locked = unsafe { libc::flock(open.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
            let same = || fs::metadata(file).is_ok_and(|named| named.ino() == open.metadata().unwrap().ino());
            if locked && same() {
                fs::remove_file(file).unwrap();
                shared.cleaned.fetch_add(1, SeqCst);
            }
        }
        unsafe { libc::usleep(2000) };
    }
    0
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

#[test]
fn nothing_is_lost_in_a_storm() {
    let scratch = Scratch::in_memory();
    let (seconds, workers) = (setting("PIDFLOCK_STORM_SECONDS", 10), setting("PIDFLOCK_STORM_PROCESSES", 6));
    let file = scratch.path("x.pid");
    let path = scratch.path("number");
    fs::write(path, [0; 8]).unwrap();
    let number = File::options().read(true).write(true).open(path).unwrap();
    let shared = shared();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let spawn = |random: &mut Random| {
        let seed = random.below(u64::MAX) | 1;
        fork(|| worker(shared, file, &number, seed))
    };
    let mut children: Vec<Child> = (0..workers).map(|_| spawn(&mut random)).collect();
    let others = [
        fork(|| prober(shared, file)),
        fork(|| prober(shared, file)),
        fork(|| scanner(shared, file)),
        fork(|| cleaner(shared, file)),
    ];
    let (start, mut killed, mut last, mut moved) = (Instant::now(), 0_u64, 0, Instant::now());
    while start.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_micros(500 + random.below(3000)));
        let victim = random.below(workers) as usize;
        let dead = std::mem::replace(&mut children[victim], spawn(&mut random));
        shared.killed[killed as usize % shared.killed.len()].store(dead.pid, SeqCst);
        dead.kill(libc::SIGKILL);
        assert_eq!(dead.wait(), End::Signal(libc::SIGKILL), "a worker found something wrong, see above");
        killed += 1;
        let count = shared.count.load(SeqCst);
        if count != last {
            (last, moved) = (count, Instant::now());
        }
        assert!(moved.elapsed() < Duration::from_secs(10), "wedged: nobody has had the name for ten seconds");
    }
    shared.stop.store(1, SeqCst);
    for child in children.into_iter().chain(others) {
        assert_eq!(child.wait(), End::Exit(0));
    }
    let total = shared.count.load(SeqCst);
    let lock = PidLock::options().wait(Wait::For(Duration::from_secs(5))).acquire(file).unwrap();
    count(shared, &number);
    lock.release().unwrap();
    assert!(total > 100 && killed > 10, "{total} acquisitions, {killed} kills");
    println!(
        "storm: {total} acquisitions by {workers} processes in {seconds} s, {killed} killed, {} refused, {} copies dropped, \
         {} probes, {} scans, {} files cleaned away; nothing lost",
        shared.refused.load(SeqCst),
        shared.copies.load(SeqCst),
        shared.probes.load(SeqCst),
        shared.scans.load(SeqCst),
        shared.cleaned.load(SeqCst),
    );
}
