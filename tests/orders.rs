//! Under every order of system calls, properties 1, 2, 4, 5 and 8 hold, and 3 and 6 as far as no call fails by itself.
//!
//! `cargo test` runs the bounded form. With PIDFLOCK_PROOF=full, which ci/prove sets, it runs the full form. `bounds`
//! defines both. The output says whether all orders were run, or how many of the first.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod harness;
mod support;

use core::time::Duration;
use harness::{
    explore::{Actor, CURRENT, Covered, DONE, ENTER, KILL, LEAVE, NOT_CURRENT, REFUSED, Scenario, explore},
    trace::{self, mark},
};
use pidflock::{Error, Holder, Options, PidLock, Signal, Wait};
use std::{ffi::CString, fs, time::Instant};
use support::*;

/// Exit status: an unexpected error.
const FAILED: i32 = 3;

/// Never reached: the explorer skips sleeps.
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

/// What is left of the file once all processes have ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// A process dies, leaves the file behind on purpose, or removes it without the lock.
    Something,
}

/// Explorations to run one after the other: the most preemptions, and the most orders. If one without a bound on
/// preemptions is complete, the rest is omitted.
///
/// Full form: for two processes, every order up to 60,000; for three, the first of all, then those with at most two and
/// three preemptions. Bounded form: the first orders of all, then, for two processes, every order with at most two
/// preemptions: a race takes no more.
fn bounds(processes: usize) -> &'static [(Option<u32>, u64)] {
    match (full(), processes > 2) {
        (true, false) => &[(None, 60_000)],
        (true, true) => &[(None, 10_000), (Some(2), u64::MAX), (Some(3), 40_000)],
        (false, false) => &[(None, 300), (Some(2), u64::MAX)],
        (false, true) => &[(None, 100), (Some(1), 150)],
    }
}

/// Runs these processes in every order within the bounds, and prints what was covered. None if tracing is impossible
/// here.
fn run(
    what: &str,
    scratch: &Scratch,
    file: &str,
    before: &dyn Fn(),
    left: Left,
    works: &[Work],
) -> Option<Result<(), String>> {
    if let Some(reason) = trace::impossible() {
        skip(&reason);
        return None;
    }
    let fresh = || {
        let _ = fs::remove_file(file);
        before();
    };
    let mut ran = (0, 0, Instant::now());
    for (preemptions, most) in bounds(works.len()) {
        let scenario = Scenario {
            directory: scratch.directory.to_str().unwrap(),
            file,
            before: &fresh,
            actors: works
                .iter()
                .map(|(name, work)| Actor { rude: *name == "rude", ..Actor::new(name, *work) })
                .collect(),
            leaves_nothing: left == Left::Nothing,
            preemptions: *preemptions,
            most: *most,
        };
        let covered = match explore(&scenario) {
            Ok(covered) => covered,
            Err(table) => return Some(Err(table)),
        };
        let Covered { orders, runs, steps, complete, windows, cut } = covered;
        let all = if complete { "all" } else { "the first" };
        let bound = preemptions.map_or(String::new(), |most| format!(" with at most {most} preemptions"));
        let windows = if windows > 0 { format!(", {windows} windows") } else { String::new() };
        let cut = if cut > 0 { format!(", {cut} cut off") } else { String::new() };
        println!("orders: {what}{bound}: {all} {orders}, {steps} steps in {runs} runs{windows}{cut}");
        ran = (ran.0 + runs, ran.1 + steps, ran.2);
        if complete && preemptions.is_none() {
            break;
        }
    }
    println!("speed: {} runs, {} steps in {} ms", ran.0, ran.1, ran.2.elapsed().as_millis());
    Some(Ok(()))
}

/// Runs the processes, and fails with the table of an order that breaks a property.
fn prove(
    what: &str,
    before: &dyn Fn(&str),
    left: Left,
    works: impl Fn(&'static str) -> Vec<(&'static str, Box<dyn Fn() -> i32>)>,
) {
    let scratch = Scratch::in_memory();
    let file = scratch.path("x.pid");
    let works = works(file);
    let works: Vec<Work> = works.iter().map(|(name, work)| (*name, &**work as &dyn Fn() -> i32)).collect();
    if let Some(Err(table)) = run(what, &scratch, file, &|| before(file), left, &works) {
        panic!("{table}");
    }
}

fn nothing(_: &str) {}

fn starter(file: &'static str) -> Box<dyn Fn() -> i32> {
    Box::new(move || hold(PidLock::options(), file))
}

#[test]
fn two_starters() {
    prove("two starters", &nothing, Left::Nothing, |file| vec![("A", starter(file)), ("B", starter(file))]);
}

#[test]
fn two_starters_over_a_stale_file() {
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    prove("two starters over a stale file", &stale, Left::Nothing, |file| {
        vec![("A", starter(file)), ("B", starter(file))]
    });
}

#[test]
fn two_starters_that_leave_the_file_behind() {
    let work = |file: &'static str| Box::new(move || hold(PidLock::options().remove_on_release(false), file));
    prove("two starters that leave the file behind", &nothing, Left::Something, |file| {
        vec![("A", work(file)), ("B", work(file))]
    });
}

#[test]
fn two_starters_with_two_rounds_each() {
    let rounds = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || hold(PidLock::options(), file).max(hold(PidLock::options(), file)))
    };
    prove("two starters, two rounds each", &nothing, Left::Nothing, |file| {
        vec![("A", rounds(file)), ("B", rounds(file))]
    });
}

/// The central race: B opens the file, A removes and unlocks it, B locks it, and A's second round creates a new one.
#[test]
fn a_leaver_a_newcomer_and_two_inodes() {
    let rounds = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || hold(PidLock::options(), file).max(hold(PidLock::options(), file)))
    };
    prove("a leaver and a newcomer on different inodes", &nothing, Left::Nothing, |file| {
        vec![("A", rounds(file)), ("B", starter(file))]
    });
}

#[test]
fn three_starters() {
    prove("three starters", &nothing, Left::Nothing, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("C", starter(file))]
    });
}

#[test]
fn a_starter_and_a_waiter_with_a_deadline() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(LONG), file));
    prove("a starter and a waiter with a deadline", &nothing, Left::Nothing, |file| {
        vec![("A", starter(file)), ("B", waiter(file))]
    });
}

#[test]
fn a_starter_and_a_waiter_in_flock() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(Wait::Forever), file));
    prove("a starter and a waiter in flock", &nothing, Left::Nothing, |file| {
        vec![("A", starter(file)), ("B", waiter(file))]
    });
}

#[test]
fn two_waiters_in_flock_and_a_starter() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(Wait::Forever), file));
    prove("two waiters in flock and a starter", &nothing, Left::Nothing, |file| {
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
    prove("a fork with restamp against a newcomer", &nothing, Left::Nothing, |file| {
        vec![("A", forker(file)), ("B", starter(file))]
    });
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
    prove("a child that drops its copy against a newcomer", &nothing, Left::Nothing, |file| {
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
    prove("an adoption against a newcomer", &nothing, Left::Nothing, |file| {
        vec![("A", adopter(file)), ("B", starter(file))]
    });
}

#[test]
fn two_starters_and_a_prober() {
    let prober = |file: &'static str| Box::new(move || code(pidflock::probe(file).map(drop)));
    prove("two starters and a prober", &nothing, Left::Nothing, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("P", prober(file))]
    });
}

#[test]
fn a_starter_and_a_prober() {
    let prober = |file: &'static str| Box::new(move || code(pidflock::probe(file).map(drop)));
    prove("a starter and a prober", &nothing, Left::Nothing, |file| vec![("A", starter(file)), ("P", prober(file))]);
}

#[test]
fn a_stopper_against_a_death_and_a_successor() {
    let dies = |file: &'static str| {
        Box::new(move || match PidLock::acquire(file) {
            Ok(_lock) => {
                mark(ENTER);
                mark(LEAVE);
                unsafe { libc::_exit(DONE) } // without dropping the lock
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
    prove("a stopper against a death and a successor", &nothing, Left::Something, |file| {
        vec![("H", dies(file)), ("S", stopper(file)), ("N", starter(file))]
    });
}

/// The directory of a file, open, and its name there: for code that does not use the crate.
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
                // Like systemd-tmpfiles. It too must check that the name still leads to the locked file.
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
    prove("a starter and a cleaner that locks", &stale, Left::Nothing, |file| {
        vec![("A", starter(file)), ("cleaner", cleaner(file))]
    });
    prove("two starters and a cleaner that locks", &stale, Left::Nothing, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("cleaner", cleaner(file))]
    });
}

#[test]
fn beside_a_rude_remover_nobody_touches_what_is_not_theirs() {
    let rude = |file: &'static str| -> Box<dyn Fn() -> i32> { Box::new(move || remove_rudely(file)) };
    prove("a starter and a rude remover", &nothing, Left::Something, |file| {
        vec![("A", asks(file)), ("rude", rude(file))]
    });
    prove("two starters and a rude remover", &nothing, Left::Something, |file| {
        vec![("A", asks(file)), ("B", asks(file)), ("rude", rude(file))]
    });
}

fn remove_rudely(file: &'static str) -> i32 {
    let (directory, name) = directory_and_name(file);
    unsafe { libc::unlinkat(directory, name.as_ptr(), 0) };
    DONE
}

/// Whichever step the victim is at, its death neither harms the others nor keeps the name from them.
#[test]
fn two_starters_of_which_one_is_killed() {
    prove("two starters of which one is killed", &nothing, Left::Something, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("death of A", Box::new(killer))]
    });
}

#[test]
fn a_starter_that_is_killed_and_another() {
    prove("a starter that is killed, and another", &nothing, Left::Something, |file| {
        vec![("A", starter(file)), ("death of A", Box::new(move || killer().max(hold(PidLock::options(), file))))]
    });
}

fn killer() -> i32 {
    mark(KILL);
    DONE
}

#[test]
fn a_holder_and_a_waiter_for_its_release() {
    let waiter = |file: &'static str| Box::new(move || code(pidflock::wait_released(file, LONG)));
    prove("a holder and one who waits for its release", &nothing, Left::Nothing, |file| {
        vec![("A", starter(file)), ("W", waiter(file))]
    });
}

/// Acquires, calls `is_current`, and releases.
fn asks(file: &'static str) -> Box<dyn Fn() -> i32> {
    Box::new(move || match PidLock::acquire(file) {
        Ok(lock) => {
            mark(ENTER);
            match lock.is_current() {
                Ok(current) => mark(if current { CURRENT } else { NOT_CURRENT }),
                Err(_) => return FAILED,
            }
            mark(LEAVE);
            code(lock.release())
        }
        Err(error) => code(Err(error)),
    })
}

/// What a control does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    NoInodeCheck,
    UnlockBeforeUnlink,
    TruncateAtOpen,
    UnlockInAChild,
    NoPadding,
    StampBeforeLock,
    FileLeftBehind,
    GivesUpAtOnce,
    CurrentWithoutALook,
    SignalWithoutALook,
}

/// The protocol straight through libc, with one thing wrong.
fn wrongly(wrong: Wrong, file: &str) -> i32 {
    unsafe {
        let (directory, name) = directory_and_name(file);
        let truncate = if wrong == Wrong::TruncateAtOpen { libc::O_TRUNC } else { 0 };
        let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR | libc::O_CREAT | truncate, 0o644);
        if wrong == Wrong::StampBeforeLock {
            libc::pwrite(fd, c"1\n".as_ptr().cast(), 2, 0);
        }
        if libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) != 0 {
            return REFUSED;
        }
        let (mut open, mut named) = (std::mem::zeroed::<libc::stat>(), std::mem::zeroed::<libc::stat>());
        libc::fstat(fd, &raw mut open);
        if wrong != Wrong::NoInodeCheck {
            let there = libc::fstatat(directory, name.as_ptr(), &raw mut named, libc::AT_SYMLINK_NOFOLLOW) == 0;
            if !there || open.st_ino != named.st_ino {
                libc::close(fd);
                return DONE; // the library retries here; a control need not
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
        if wrong == Wrong::CurrentWithoutALook {
            libc::fstatat(directory, name.as_ptr(), &raw mut named, libc::AT_SYMLINK_NOFOLLOW);
            mark(CURRENT);
        }
        mark(LEAVE);
        if wrong == Wrong::UnlockBeforeUnlink {
            libc::flock(fd, libc::LOCK_UN);
        }
        if wrong != Wrong::FileLeftBehind {
            libc::unlinkat(directory, name.as_ptr(), 0);
        }
        libc::flock(fd, libc::LOCK_UN);
        libc::close(fd);
        DONE
    }
}

/// Runs a control beside a second one, or beside this other process. Returns the table of the order that caught it.
fn caught_beside(wrong: Wrong, content: Option<&str>, other: Option<(&'static str, Job)>) -> Option<String> {
    let scratch = Scratch::in_memory();
    let file = scratch.path("x.pid");
    let before = || {
        if let Some(content) = content {
            fs::write(file, content).unwrap();
        }
    };
    let rounds = if wrong == Wrong::NoInodeCheck { 2 } else { 1 };
    let work = || (0..rounds).map(|_| wrongly(wrong, file)).max().unwrap();
    let beside = || other.map_or(DONE, |(_, job)| job(file));
    let works: [Work; 2] = match other {
        Some((name, _)) => [("A", &work), (name, &beside)],
        None => [("A", &work), ("B", &work)],
    };
    let table =
        run("a control", &scratch, file, &before, Left::Nothing, &works)?.expect_err("the control was not caught");
    println!("control caught: {}", table.lines().next().unwrap());
    Some(table)
}

type Job = fn(&'static str) -> i32;

fn caught(wrong: Wrong, content: Option<&str>) -> Option<String> {
    caught_beside(wrong, content, None)
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

#[test]
fn a_stamp_before_the_lock_changes_the_holders_file() {
    if let Some(table) = caught(Wrong::StampBeforeLock, None) {
        assert!(table.contains("changes a file that it has not locked"), "{table}");
    }
}

#[test]
fn a_file_that_is_left_behind_is_found() {
    if let Some(table) = caught(Wrong::FileLeftBehind, None) {
        assert!(table.contains("the file is still there"), "{table}");
    }
}

#[test]
fn giving_up_at_a_probe_is_a_refusal_although_nobody_holds_the_name() {
    let prober = ("P", (|file| code(pidflock::probe(file).map(drop))) as Job);
    if let Some(table) = caught_beside(Wrong::GivesUpAtOnce, Some("2147483647\n"), Some(prober)) {
        assert!(table.contains("was refused, and nobody held the name"), "{table}");
    }
}

#[test]
fn reporting_current_without_a_look_is_wrong_after_a_removal() {
    let rude = ("rude", remove_rudely as Job);
    if let Some(table) = caught_beside(Wrong::CurrentWithoutALook, None, Some(rude)) {
        assert!(table.contains("is told the contrary"), "{table}");
    }
}

#[test]
fn a_signal_to_the_claim_alone_hits_a_process_that_has_released() {
    let stopper = |file: &'static str| {
        if let Ok(Some(pid)) = pidflock::read_pid_from(file) {
            unsafe { libc::kill(pid.get(), libc::SIGURG) };
        }
        DONE
    };
    if let Some(table) = caught_beside(Wrong::SignalWithoutALook, None, Some(("S", stopper as Job))) {
        assert!(table.contains("signals a process that does not hold the name"), "{table}");
    }
}

/// Two siblings take over a lock that was let go, while another open file of theirs is in the way. Only one of them
/// enters: they share the lock, but neither may undo what the other has. Who is refused is another question.
#[test]
fn a_sibling_that_takes_over_beside_one_that_is_refused() {
    let unless_refused = |result| match code(result) {
        REFUSED => DONE,
        code => code,
    };
    let siblings = move |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || {
            let lock = match PidLock::options().remove_on_release(false).acquire(file) {
                Ok(lock) => lock,
                Err(error) => return unless_refused(Err(error)),
            };
            let flock = |fd, operation| unsafe { libc::flock(fd, operation | libc::LOCK_NB) };
            let (directory, name) = directory_and_name(file);
            let other = unsafe { libc::openat(directory, name.as_ptr(), libc::O_RDWR) };
            flock(pidflock::AsRawFd::as_raw_fd(&lock), libc::LOCK_UN);
            if flock(other, libc::LOCK_EX) != 0 {
                lock.disown();
                return DONE;
            }
            let enters = unsafe { libc::fork() } == 0;
            if enters {
                flock(other, libc::LOCK_UN);
            }
            let restamped = lock.restamp();
            if enters && restamped.is_ok() {
                mark(ENTER);
                mark(LEAVE);
            }
            lock.disown();
            unless_refused(restamped)
        })
    };
    let newcomer = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || match hold(PidLock::options().remove_on_release(false), file) {
            REFUSED => DONE,
            code => code,
        })
    };
    prove("a sibling that takes over beside one that is refused", &nothing, Left::Something, |file| {
        vec![("A", siblings(file))]
    });
    prove("the same against a newcomer", &nothing, Left::Something, |file| {
        vec![("A", siblings(file)), ("B", newcomer(file))]
    });
}
