//! Under every order of system calls: never two holders, and nobody touches what is not his (properties 1, 2, 4, 5, 8).
//!
//! `cargo test` runs the bounded form; with PIDFLOCK_PROOF=full, as ci/prove sets it, the orders of three processes are
//! bounded by three preemptions and the number of orders is not.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod harness;
mod support;

use core::time::Duration;
use harness::{
    explore::{Actor, Covered, DONE, ENTER, LEAVE, REFUSED, Scenario, explore},
    trace::{self, mark},
};
use pidflock::{Error, Holder, Options, PidLock, Signal, Wait};
use std::{ffi::CString, fs};
use support::*;

/// What a release or an unexpected error makes a process exit with.
const FAILED: i32 = 3;

/// Ample: sleeps are not slept, so that this time never passes.
const LONG: Wait = Wait::For(Duration::from_secs(3600));

fn full() -> bool {
    std::env::var("PIDFLOCK_PROOF").is_ok_and(|proof| proof == "full")
}

/// Acquires, holds and releases.
fn hold(options: Options, file: &str) -> i32 {
    match options.acquire(file) {
        Ok(lock) => {
            mark(ENTER);
            mark(LEAVE);
            code(lock.release())
        }
        Err(error) => code(Err(error)),
    }
}

fn code(result: Result<(), Error>) -> i32 {
    match result {
        Ok(()) => DONE,
        Err(Error::AlreadyLocked { .. }) => REFUSED,
        Err(_) => FAILED,
    }
}

type Work<'a> = (&'static str, &'a dyn Fn() -> i32);

/// Runs these processes in every order, bounded by preemptions if there are more than two, and says what was covered.
/// None where nothing can be traced.
fn run(what: &str, scratch: &Scratch, file: &str, before: &dyn Fn(), works: &[Work]) -> Option<Result<(), String>> {
    if let Some(reason) = trace::impossible() {
        skip(&reason);
        return None;
    }
    let fresh = || {
        let _ = fs::remove_file(file);
        before();
    };
    let scenario = |preemptions, most| Scenario {
        directory: scratch.directory.to_str().unwrap(),
        file,
        before: &fresh,
        actors: works.iter().map(|(name, work)| Actor { rude: *name == "rude", ..Actor::new(name, *work) }).collect(),
        preemptions,
        most,
    };
    // Two processes: every order, and where those are too many for `cargo test`, the first, and then all with at most two
    // preemptions. Three: bounded by preemptions.
    let bounds: &[(Option<u32>, u64)] = match (works.len() > 2, full()) {
        (false, true) => &[(None, u64::MAX)],
        (false, false) => &[(None, 300), (Some(2), 600)],
        (true, true) => &[(Some(3), u64::MAX)],
        (true, false) => &[(Some(1), 300)],
    };
    for (preemptions, most) in bounds {
        let covered = match explore(&scenario(*preemptions, *most)) {
            Ok(covered) => covered,
            Err(table) => return Some(Err(table)),
        };
        let Covered { orders, runs, steps, complete, windows } = covered;
        let all = if complete { "all" } else { "the first" };
        let bound = preemptions.map_or(String::new(), |most| format!(" with at most {most} preemptions"));
        println!("orders: {what}{bound}: {all} {orders}, {steps} steps in {runs} runs, {windows} windows");
        if complete {
            break;
        }
    }
    Some(Ok(()))
}

/// Runs them, and fails with the table of an order in which something is wrong.
fn prove(what: &str, before: &dyn Fn(&str), works: impl Fn(&'static str) -> Vec<(&'static str, Box<dyn Fn() -> i32>)>) {
    let scratch = Scratch::in_memory();
    let file = scratch.path("x.pid");
    let works = works(file);
    let works: Vec<Work> = works.iter().map(|(name, work)| (*name, &**work as &dyn Fn() -> i32)).collect();
    if let Some(Err(table)) = run(what, &scratch, file, &|| before(file), &works) {
        panic!("{table}");
    }
}

fn nothing(_: &str) {}

fn starter(file: &'static str) -> Box<dyn Fn() -> i32> {
    Box::new(move || hold(PidLock::options(), file))
}

#[test]
fn two_starters() {
    prove("two starters", &nothing, |file| vec![("A", starter(file)), ("B", starter(file))]);
}

#[test]
fn two_starters_over_a_stale_file() {
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    prove("two starters over a stale file", &stale, |file| vec![("A", starter(file)), ("B", starter(file))]);
}

#[test]
fn two_starters_that_leave_the_file_behind() {
    let work = |file: &'static str| Box::new(move || hold(PidLock::options().remove_on_release(false), file));
    prove("two starters that leave the file behind", &nothing, |file| vec![("A", work(file)), ("B", work(file))]);
}

#[test]
fn two_starters_with_two_rounds_each() {
    let rounds = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || hold(PidLock::options(), file).max(hold(PidLock::options(), file)))
    };
    prove("two starters, two rounds each", &nothing, |file| vec![("A", rounds(file)), ("B", rounds(file))]);
}

/// The heart: B opens the file, A removes it and lets go, B locks it, and A's second round makes a new one.
#[test]
fn a_leaver_a_newcomer_and_two_inodes() {
    let rounds = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || hold(PidLock::options(), file).max(hold(PidLock::options(), file)))
    };
    prove("a leaver and a newcomer on different inodes", &nothing, |file| {
        vec![("A", rounds(file)), ("B", starter(file))]
    });
}

#[test]
fn three_starters() {
    prove("three starters", &nothing, |file| vec![("A", starter(file)), ("B", starter(file)), ("C", starter(file))]);
}

#[test]
fn a_starter_and_a_waiter_with_a_deadline() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(LONG), file));
    prove("a starter and a waiter with a deadline", &nothing, |file| vec![("A", starter(file)), ("B", waiter(file))]);
}

#[test]
fn a_starter_and_a_waiter_in_flock() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(Wait::Forever), file));
    prove("a starter and a waiter in flock", &nothing, |file| vec![("A", starter(file)), ("B", waiter(file))]);
}

#[test]
fn two_waiters_in_flock_and_a_starter() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(Wait::Forever), file));
    prove("two waiters in flock and a starter", &nothing, |file| {
        vec![("A", starter(file)), ("B", waiter(file)), ("C", waiter(file))]
    });
}

#[test]
fn a_fork_with_restamp_against_a_newcomer() {
    let forker = |file: &'static str| {
        Box::new(move || {
            let lock = match PidLock::acquire(file) {
                Ok(lock) => lock,
                Err(error) => return code(Err(error)),
            };
            if unsafe { libc::fork() } != 0 {
                lock.disown();
                return DONE;
            }
            let restamped = lock.restamp();
            mark(ENTER);
            mark(LEAVE);
            code(restamped.and(lock.release()))
        })
    };
    prove("a fork with restamp against a newcomer", &nothing, |file| vec![("A", forker(file)), ("B", starter(file))]);
}

#[test]
fn a_child_that_drops_its_copy_against_a_newcomer() {
    let forker = |file: &'static str| {
        Box::new(move || {
            let lock = match PidLock::acquire(file) {
                Ok(lock) => lock,
                Err(error) => return code(Err(error)),
            };
            if unsafe { libc::fork() } == 0 {
                drop(lock);
                return DONE;
            }
            mark(ENTER);
            mark(LEAVE);
            code(lock.release())
        })
    };
    prove("a child that drops its copy against a newcomer", &nothing, |file| {
        vec![("A", forker(file)), ("B", starter(file))]
    });
}

#[test]
fn an_adoption_against_a_newcomer() {
    let adopter = |file: &'static str| {
        Box::new(move || match PidLock::acquire(file).and_then(PidLock::hand_over) {
            Ok(fd) => {
                mark(ENTER);
                let adopted = PidLock::adopt(fd, file);
                mark(LEAVE);
                code(adopted.and_then(PidLock::release))
            }
            Err(error) => code(Err(error)),
        })
    };
    prove("an adoption against a newcomer", &nothing, |file| vec![("A", adopter(file)), ("B", starter(file))]);
}

#[test]
fn two_starters_and_a_prober() {
    let prober = |file: &'static str| Box::new(move || code(pidflock::probe(file).map(drop)));
    prove("two starters and a prober", &nothing, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("P", prober(file))]
    });
}

#[test]
fn a_starter_and_a_prober() {
    let prober = |file: &'static str| Box::new(move || code(pidflock::probe(file).map(drop)));
    prove("a starter and a prober", &nothing, |file| vec![("A", starter(file)), ("P", prober(file))]);
}

#[test]
fn a_stopper_against_a_death_and_a_successor() {
    let dies = |file: &'static str| {
        Box::new(move || match PidLock::acquire(file) {
            Ok(_lock) => {
                mark(ENTER);
                mark(LEAVE);
                unsafe { libc::_exit(DONE) } // the lock is never dropped
            }
            Err(error) => code(Err(error)),
        })
    };
    let stopper = |file: &'static str| {
        Box::new(move || {
            let Ok(holder) = Holder::find(file) else { return DONE };
            let _ = holder.signal(Signal::from_raw(libc::SIGURG).unwrap());
            let _ = holder.signal(Signal::from_raw(libc::SIGURG).unwrap());
            DONE
        })
    };
    prove("a stopper against a death and a successor", &nothing, |file| {
        vec![("H", dies(file)), ("S", stopper(file)), ("N", starter(file))]
    });
}

/// The directory of a file, open, and its name there, for code that does without the crate.
fn directory_and_name(file: &str) -> (i32, CString) {
    let (directory, name) = file.rsplit_once('/').unwrap();
    let directory = CString::new(directory).unwrap();
    (unsafe { libc::open(directory.as_ptr(), libc::O_PATH) }, CString::new(name).unwrap())
}

#[test]
fn two_starters_and_a_cleaner_that_locks() {
    let cleaner = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || unsafe {
            let (directory, name) = directory_and_name(file);
            let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR);
            if fd != -1 && libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) == 0 {
                // As systemd-tmpfiles does, which like everybody else has to look whether it is still the file.
                let (mut open, mut named) = (std::mem::zeroed::<libc::stat>(), std::mem::zeroed::<libc::stat>());
                libc::fstat(fd, &raw mut open);
                let there = libc::fstatat(directory, name.as_ptr(), &raw mut named, libc::AT_SYMLINK_NOFOLLOW) == 0;
                if there && open.st_ino == named.st_ino {
                    libc::unlinkat(directory, name.as_ptr(), 0);
                }
                libc::close(fd);
            }
            DONE
        })
    };
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    prove("a starter and a cleaner that locks", &stale, |file| vec![("A", starter(file)), ("cleaner", cleaner(file))]);
    prove("two starters and a cleaner that locks", &stale, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("cleaner", cleaner(file))]
    });
}

#[test]
fn beside_a_rude_remover_nobody_touches_what_is_not_his() {
    let rude = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || unsafe {
            let (directory, name) = directory_and_name(file);
            libc::unlinkat(directory, name.as_ptr(), 0);
            DONE
        })
    };
    prove("a starter and a rude remover", &nothing, |file| vec![("A", starter(file)), ("rude", rude(file))]);
    prove("two starters and a rude remover", &nothing, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("rude", rude(file))]
    });
}

/// What the controls get wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    NoInodeCheck,
    UnlockBeforeUnlink,
    TruncateAtOpen,
    UnlockInAChild,
    NoPadding,
}

/// The protocol straight through libc, with one thing wrong.
fn wrongly(wrong: Wrong, file: &str) -> i32 {
    unsafe {
        let (directory, name) = directory_and_name(file);
        let truncate = if wrong == Wrong::TruncateAtOpen { libc::O_TRUNC } else { 0 };
        let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR | libc::O_CREAT | truncate, 0o644);
        if libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) != 0 {
            return REFUSED;
        }
        let (mut open, mut named) = (std::mem::zeroed::<libc::stat>(), std::mem::zeroed::<libc::stat>());
        libc::fstat(fd, &raw mut open);
        if wrong != Wrong::NoInodeCheck {
            let there = libc::fstatat(directory, name.as_ptr(), &raw mut named, libc::AT_SYMLINK_NOFOLLOW) == 0;
            if !there || open.st_ino != named.st_ino {
                libc::close(fd);
                return DONE; // a right one would try again, a wrong one need not
            }
        }
        let mut text = format!("{}\n", libc::getpid());
        let length = text.len();
        if wrong != Wrong::NoPadding {
            while text.len() < open.st_size as usize {
                text.push('\n');
            }
        }
        libc::pwrite(fd, text.as_ptr().cast(), text.len(), 0);
        libc::ftruncate(fd, length as i64);
        if wrong == Wrong::UnlockInAChild && libc::fork() == 0 {
            libc::flock(fd, libc::LOCK_UN);
            return DONE;
        }
        mark(ENTER);
        mark(LEAVE);
        if wrong == Wrong::UnlockBeforeUnlink {
            libc::flock(fd, libc::LOCK_UN);
        }
        libc::unlinkat(directory, name.as_ptr(), 0);
        libc::flock(fd, libc::LOCK_UN);
        libc::close(fd);
        DONE
    }
}

/// Runs a control, and returns what the explorer says against it.
fn caught(wrong: Wrong, content: Option<&str>) -> Option<String> {
    let scratch = Scratch::in_memory();
    let file = scratch.path("x.pid");
    let before = || {
        if let Some(content) = content {
            fs::write(file, content).unwrap();
        }
    };
    let rounds = if wrong == Wrong::NoInodeCheck { 2 } else { 1 };
    let work = || (0..rounds).map(|_| wrongly(wrong, file)).max().unwrap();
    let works: [Work; 2] = [("A", &work), ("B", &work)];
    let table = run("a control", &scratch, file, &before, &works)?.expect_err("the control was not caught");
    println!("control caught: {}", table.lines().next().unwrap());
    Some(table)
}

#[test]
fn without_the_inode_check_there_are_two_holders() {
    if let Some(table) = caught(Wrong::NoInodeCheck, None) {
        assert!(table.starts_with("two holders") || table.contains("removes a file that it has not locked"), "{table}");
    }
}

#[test]
fn unlocking_before_unlinking_removes_a_successors_file() {
    if let Some(table) = caught(Wrong::UnlockBeforeUnlink, None) {
        assert!(table.contains("removes a file that it has not locked"), "{table}");
    }
}

#[test]
fn truncating_at_open_wipes_the_holders_claim() {
    if let Some(table) = caught(Wrong::TruncateAtOpen, None) {
        assert!(table.contains("truncates"), "{table}");
    }
}

#[test]
fn unlocking_in_a_child_frees_the_parents_lock() {
    if let Some(table) = caught(Wrong::UnlockInAChild, None) {
        assert!(table.contains("unlocks what another holds") || table.starts_with("two holders"), "{table}");
    }
}

#[test]
fn a_stamp_without_padding_can_be_read_half() {
    if let Some(table) = caught(Wrong::NoPadding, Some("2147483647\n")) {
        assert!(table.contains("the file reads as"), "{table}");
    }
}
