//! Under every order of system calls, properties 1, 2, 4, 5 and 8 hold, and 3 and 6 as far as calls fail one at a time.
//!
//! Most mixes of processes are searched twice: every state is visited, and some orders are run on the kernel. `cargo
//! test` runs the bounded form. With PIDFLOCK_PROOF=full, which ci/prove sets, it runs the full form. `most_states` and
//! `bounds` define both. The output says whether all was visited or run, or how much.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod harness;
mod support;

use core::time::Duration;
use harness::{
    errors::{calls_that_fail, errors_of},
    explore::{
        Actor, CURRENT, Covered, DONE, ENTER, FAILED, Fault, KILL, LEAVE, NOT_CURRENT, REFUSED, Scenario, explore,
        explore_states,
    },
    trace::{self, mark},
};
use pidflock::{Error, Holder, Options, PidLock, Signal, Wait};
use std::{ffi::CString, fs, time::Instant};
use support::*;

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

/// How a mix is searched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Visit its states, and run some of its orders.
    States,
    /// Run its orders alone: what a process sees in /proc is no part of a state.
    Orders,
}

/// How many states are visited at most. Most mixes of two processes have fewer.
fn most_states(processes: usize) -> u64 {
    match (full(), processes > 2) {
        (true, _) => u64::MAX,
        (false, false) => 25_000,
        (false, true) => 3_000,
    }
}

/// Orders to run one after the other: the most preemptions, and the most orders. If one without a bound on preemptions
/// is complete, the rest is omitted.
fn bounds(by: By, processes: usize) -> &'static [(Option<u32>, u64)] {
    match (by, full(), processes > 2) {
        (By::States, true, false) => &[(None, 20_000)],
        (By::States, true, true) => &[(None, 1_000)],
        (By::States, false, _) => &[(None, 20)],
        (By::Orders, true, _) => &[(None, 10_000), (Some(2), u64::MAX), (Some(3), 40_000)],
        (By::Orders, false, _) => &[(None, 100), (Some(1), 150)],
    }
}

/// Processes to be run in every order.
#[derive(Clone, Copy)]
struct Mix<'a> {
    what: &'static str,
    by: By,
    scratch: &'a Scratch,
    file: &'static str,
    before: &'a dyn Fn(),
    left: Left,
    /// So many of the first do the same work.
    alike: usize,
    works: &'a [Work<'a>],
    fault: Option<Fault>,
}

impl<'a> Mix<'a> {
    /// Calls `search` with the scenario.
    fn search(
        &self,
        preemptions: Option<u32>,
        most: u64,
        search: fn(&Scenario) -> Result<Covered, String>,
    ) -> Result<Covered, String> {
        let fresh = || {
            let _ = fs::remove_file(self.file);
            (self.before)();
        };
        let actor = |(name, work): &Work<'a>| Actor {
            rude: *name == "rude",
            observer: *name == "P",
            ..Actor::new(name, *work)
        };
        search(&Scenario {
            directory: self.scratch.directory.to_str().unwrap(),
            file: self.file,
            before: &fresh,
            actors: self.works.iter().map(actor).collect(),
            alike: self.alike,
            fault: self.fault,
            leaves_nothing: self.left == Left::Nothing,
            preemptions,
            most,
            most_states: most_states(self.works.len()),
            forgets: true,
            learns: false,
        })
    }

    fn visit_states(&self) -> Result<(), String> {
        let began = Instant::now();
        let covered = self.search(None, u64::MAX, explore_states)?;
        let Covered { states, steps, all_orders, histories, runs, compared, complete, windows, cut, .. } = covered;
        let all = if complete { "all" } else { "the first" };
        let orders = if complete { format!(" of {all_orders:.1e} orders") } else { String::new() };
        let more = more(windows, cut);
        let (what, ms) = (self.what, began.elapsed().as_millis());
        println!(
            "states: {what}: {all} {states}{orders}, {steps} steps{more}; {histories} histories, \
             {compared} answers compared in {runs} runs; {ms} ms"
        );
        Ok(())
    }

    fn run_orders(&self) -> Result<(), String> {
        let mut ran = (0, 0, Instant::now());
        for (preemptions, most) in bounds(self.by, self.works.len()) {
            let covered = self.search(*preemptions, *most, explore)?;
            let Covered { orders, runs, steps, complete, windows, cut, .. } = covered;
            let all = if complete { "all" } else { "the first" };
            let bound = preemptions.map_or(String::new(), |most| format!(" with at most {most} preemptions"));
            let (what, more) = (self.what, more(windows, cut));
            println!("orders: {what}{bound}: {all} {orders}, {steps} steps in {runs} runs{more}");
            ran = (ran.0 + runs, ran.1 + steps, ran.2);
            if complete && preemptions.is_none() {
                break;
            }
        }
        println!("speed: {} runs, {} steps in {} ms", ran.0, ran.1, ran.2.elapsed().as_millis());
        Ok(())
    }
}

fn more(windows: u64, cut: u64) -> String {
    let windows = if windows > 0 { format!(", {windows} windows") } else { String::new() };
    let cut = if cut > 0 { format!(", {cut} cut off") } else { String::new() };
    windows + &cut
}

type Works = Vec<(&'static str, Box<dyn Fn() -> i32>)>;

/// Calls `search` with these processes and a new file. None if tracing is impossible here.
fn with_mix<R>(
    by: By,
    what: &'static str,
    before: &dyn Fn(&str),
    left: Left,
    alike: usize,
    works: impl Fn(&'static str) -> Works,
    search: impl FnOnce(&Mix) -> R,
) -> Option<R> {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        skip(&reason);
        return None;
    }
    let file = scratch.path("x.pid");
    let works = works(file);
    let works: Vec<Work> = works.iter().map(|(name, work)| (*name, &**work as &dyn Fn() -> i32)).collect();
    let before = || before(file);
    Some(search(&Mix { what, by, scratch: &scratch, file, before: &before, left, alike, works: &works, fault: None }))
}

/// Runs the processes in every order within the bounds, prints what was covered, and fails with the table of an order
/// that breaks a property.
fn prove_by(
    by: By,
    what: &'static str,
    before: &dyn Fn(&str),
    left: Left,
    alike: usize,
    works: impl Fn(&'static str) -> Works,
) {
    let proved = with_mix(by, what, before, left, alike, works, |mix| {
        let visited = if by == By::States { mix.visit_states() } else { Ok(()) };
        visited.and_then(|()| mix.run_orders())
    });
    if let Some(Err(table)) = proved {
        panic!("{table}");
    }
}

fn prove(what: &'static str, before: &dyn Fn(&str), left: Left, alike: usize, works: impl Fn(&'static str) -> Works) {
    prove_by(By::States, what, before, left, alike, works);
}

fn nothing(_: &str) {}

fn starter(file: &'static str) -> Box<dyn Fn() -> i32> {
    Box::new(move || hold(PidLock::options(), file))
}

#[test]
fn two_starters() {
    prove("two starters", &nothing, Left::Nothing, 2, |file| vec![("A", starter(file)), ("B", starter(file))]);
}

#[test]
fn two_starters_over_a_stale_file() {
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    prove("two starters over a stale file", &stale, Left::Nothing, 2, |file| {
        vec![("A", starter(file)), ("B", starter(file))]
    });
}

#[test]
fn two_starters_that_leave_the_file_behind() {
    let work = |file: &'static str| Box::new(move || hold(PidLock::options().remove_on_release(false), file));
    prove("two starters that leave the file behind", &nothing, Left::Something, 2, |file| {
        vec![("A", work(file)), ("B", work(file))]
    });
}

#[test]
fn two_starters_with_two_rounds_each() {
    let rounds = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || hold(PidLock::options(), file).max(hold(PidLock::options(), file)))
    };
    prove("two starters, two rounds each", &nothing, Left::Nothing, 2, |file| {
        vec![("A", rounds(file)), ("B", rounds(file))]
    });
}

/// The central race: B opens the file, A removes and unlocks it, B locks it, and A's second round creates a new one.
#[test]
fn a_leaver_a_newcomer_and_two_inodes() {
    let rounds = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || hold(PidLock::options(), file).max(hold(PidLock::options(), file)))
    };
    prove("a leaver and a newcomer on different inodes", &nothing, Left::Nothing, 0, |file| {
        vec![("A", rounds(file)), ("B", starter(file))]
    });
}

#[test]
fn three_starters() {
    prove("three starters", &nothing, Left::Nothing, 3, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("C", starter(file))]
    });
}

#[test]
fn a_starter_and_a_waiter_with_a_deadline() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(LONG), file));
    prove("a starter and a waiter with a deadline", &nothing, Left::Nothing, 0, |file| {
        vec![("A", starter(file)), ("B", waiter(file))]
    });
}

#[test]
fn a_starter_and_a_waiter_in_flock() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(Wait::Forever), file));
    prove("a starter and a waiter in flock", &nothing, Left::Nothing, 0, |file| {
        vec![("A", starter(file)), ("B", waiter(file))]
    });
}

#[test]
fn two_waiters_in_flock_and_a_starter() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(Wait::Forever), file));
    prove("two waiters in flock and a starter", &nothing, Left::Nothing, 2, |file| {
        vec![("B", waiter(file)), ("C", waiter(file)), ("A", starter(file))]
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
    prove("a fork with restamp against a newcomer", &nothing, Left::Nothing, 0, |file| {
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
    prove("a child that drops its copy against a newcomer", &nothing, Left::Nothing, 0, |file| {
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
    prove("an adoption against a newcomer", &nothing, Left::Nothing, 0, |file| {
        vec![("A", adopter(file)), ("B", starter(file))]
    });
}

#[test]
fn two_starters_and_a_prober() {
    let prober = |file: &'static str| Box::new(move || code(pidflock::probe(file).map(drop)));
    prove("two starters and a prober", &nothing, Left::Nothing, 2, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("P", prober(file))]
    });
}

#[test]
fn a_starter_and_a_prober() {
    let prober = |file: &'static str| Box::new(move || code(pidflock::probe(file).map(drop)));
    prove("a starter and a prober", &nothing, Left::Nothing, 0, |file| vec![("A", starter(file)), ("P", prober(file))]);
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
    prove_by(By::Orders, "a stopper against a death and a successor", &nothing, Left::Something, 0, |file| {
        vec![("H", dies(file)), ("S", stopper(file)), ("N", starter(file))]
    });
}

/// The directory of a file, open, and its name there: for code that does not use the crate.
fn directory_and_name(file: &str) -> (i32, CString) {
    let (directory, name) = file.rsplit_once('/').unwrap();
    let directory = CString::new(directory).unwrap();
    (unsafe { libc::open(directory.as_ptr(), libc::O_PATH) }, CString::new(name).unwrap())
}

/// Removes the file, as systemd-tmpfiles does: with the lock. It too must check that the name still leads to it.
fn clean(file: &str) -> i32 {
    unsafe {
        let (directory, name) = directory_and_name(file);
        let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR);
        if fd != -1 && libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) == 0 {
            let (mut open, mut named) = (std::mem::zeroed::<libc::stat>(), std::mem::zeroed::<libc::stat>());
            libc::fstat(fd, &raw mut open);
            let there = libc::fstatat(directory, name.as_ptr(), &raw mut named, libc::AT_SYMLINK_NOFOLLOW) == 0;
            if there && open.st_ino == named.st_ino {
                libc::unlinkat(directory, name.as_ptr(), 0);
            }
            libc::close(fd);
        }
    }
    DONE
}

#[test]
fn two_starters_and_a_cleaner_that_locks() {
    let cleaner = |file: &'static str| -> Box<dyn Fn() -> i32> { Box::new(move || clean(file)) };
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    prove("a starter and a cleaner that locks", &stale, Left::Nothing, 0, |file| {
        vec![("A", starter(file)), ("cleaner", cleaner(file))]
    });
    prove("two starters and a cleaner that locks", &stale, Left::Nothing, 2, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("cleaner", cleaner(file))]
    });
}

#[test]
fn beside_a_rude_remover_nobody_touches_what_is_not_theirs() {
    let rude = |file: &'static str| -> Box<dyn Fn() -> i32> { Box::new(move || remove_rudely(file)) };
    prove("a starter and a rude remover", &nothing, Left::Something, 0, |file| {
        vec![("A", asks(file)), ("rude", rude(file))]
    });
    prove("two starters and a rude remover", &nothing, Left::Something, 2, |file| {
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
    prove("two starters of which one is killed", &nothing, Left::Something, 0, |file| {
        vec![("A", starter(file)), ("B", starter(file)), ("death of A", Box::new(killer))]
    });
}

#[test]
fn a_starter_that_is_killed_and_another() {
    prove("a starter that is killed, and another", &nothing, Left::Something, 0, |file| {
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
    prove("a holder and one who waits for its release", &nothing, Left::Nothing, 0, |file| {
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
    LockTakenForGranted,
}

/// The protocol straight through libc, with one thing wrong.
fn wrongly(wrong: Wrong, file: &str) -> i32 {
    unsafe {
        let (directory, name) = directory_and_name(file);
        let truncate = if wrong == Wrong::TruncateAtOpen { libc::O_TRUNC } else { 0 };
        let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR | libc::O_CREAT | truncate, 0o644);
        if fd == -1 {
            return FAILED;
        }
        if wrong == Wrong::StampBeforeLock {
            libc::pwrite(fd, c"1\n".as_ptr().cast(), 2, 0);
        }
        let refused = libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) != 0;
        let refused_by_another = *libc::__errno_location() == libc::EWOULDBLOCK;
        if refused && (wrong != Wrong::LockTakenForGranted || refused_by_another) {
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

/// Runs a control beside a second one, or beside this other process. Both searches must catch it. Returns the table of
/// the order by which the search of states did.
fn caught_beside(wrong: Wrong, content: Option<&str>, other: Option<(&'static str, Job)>) -> Option<String> {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        skip(&reason);
        return None;
    }
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
    let alike = if other.is_none() { 2 } else { 0 };
    let what = "a control";
    let by = By::States;
    let mix = Mix {
        what,
        by,
        scratch: &scratch,
        file,
        before: &before,
        left: Left::Nothing,
        alike,
        works: &works,
        fault: None,
    };
    let first = mix.search(None, 300, explore);
    let caught = first.and_then(|_| mix.search(Some(2), u64::MAX, explore));
    caught.expect_err("the control was not caught by a search of orders");
    let table = mix.visit_states().expect_err("the control was not caught by a search of states");
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

/// Two siblings take over a lock that was released, while another open file of theirs is in the way. Only one of them
/// enters: they share the lock, but neither may undo what the other has. Either may be refused.
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
    prove("a sibling that takes over beside one that is refused", &nothing, Left::Something, 0, |file| {
        vec![("A", siblings(file))]
    });
    prove("the same against a newcomer", &nothing, Left::Something, 0, |file| {
        vec![("A", siblings(file)), ("B", newcomer(file))]
    });
}

/// What a holder, a leaver and a newcomer do to each other when each can have another inode. The leaver removes the
/// first, the newcomer has it open, and the holder creates the next and keeps it until it ends.
#[test]
fn a_holder_a_leaver_and_a_newcomer_on_different_inodes() {
    let holder = |file: &'static str| -> Box<dyn Fn() -> i32> {
        Box::new(move || match PidLock::acquire(file) {
            Ok(lock) => {
                mark(ENTER);
                std::mem::forget(lock);
                mark(LEAVE);
                DONE
            }
            Err(error) => code(Err(error)),
        })
    };
    prove("a holder, a leaver and a newcomer on different inodes", &nothing, Left::Something, 2, |file| {
        vec![("leaver", starter(file)), ("newcomer", starter(file)), ("holder", holder(file))]
    });
}

/// A holder that has yet to stamp, and again and again gives a starter a reason to look.
fn hold_without_a_claim(file: &str) -> i32 {
    unsafe {
        let (directory, name) = directory_and_name(file);
        let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o644);
        if fd == -1 || libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) != 0 {
            return DONE;
        }
        for _ in 0..8 {
            libc::ftruncate(fd, 0);
        }
        libc::unlinkat(directory, name.as_ptr(), 0);
        libc::close(fd);
        DONE
    }
}

/// A protocol that only a third process with three preemptions can break. It verifies the inode, but not if it was
/// refused the lock at first: then a name that leads anywhere is good enough for it.
fn verifies_too_little_after_a_wait(file: &str) -> i32 {
    unsafe {
        let (directory, name) = directory_and_name(file);
        let fd = libc::openat(directory, name.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o644);
        let at_once = libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) == 0;
        if !at_once && libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) != 0 {
            return REFUSED;
        }
        let (mut open, mut named) = (std::mem::zeroed::<libc::stat>(), std::mem::zeroed::<libc::stat>());
        libc::fstat(fd, &raw mut open);
        let there = libc::fstatat(directory, name.as_ptr(), &raw mut named, libc::AT_SYMLINK_NOFOLLOW) == 0;
        if !there || at_once && open.st_ino != named.st_ino {
            libc::close(fd);
            return DONE;
        }
        mark(ENTER);
        mark(LEAVE);
        libc::unlinkat(directory, name.as_ptr(), 0);
        libc::close(fd);
        DONE
    }
}

#[test]
fn only_a_third_process_and_three_preemptions_break_this_protocol() {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        return skip(&reason);
    }
    let file = scratch.path("x.pid");
    let work = || verifies_too_little_after_a_wait(file);
    let works: [Work; 3] = [("A", &work), ("B", &work), ("C", &work)];
    let (what, by, left) = ("a control of three", By::States, Left::Nothing);
    let mix = |alike| Mix {
        what,
        by,
        scratch: &scratch,
        file,
        before: &|| (),
        left,
        alike,
        works: &works[..alike],
        fault: None,
    };
    let covered = mix(2).search(None, u64::MAX, explore_states).unwrap();
    assert!(covered.complete, "two processes break it not, in any order");
    let covered = mix(3).search(Some(2), u64::MAX, explore).unwrap();
    assert!(covered.complete, "nor do three with two preemptions");
    let table = mix(3).search(None, u64::MAX, explore_states).expect_err("the control was not caught");
    assert!(table.starts_with("two holders") || table.contains("removes a file that it has not locked"), "{table}");
    mix(3).search(Some(3), u64::MAX, explore).expect_err("three preemptions are enough");
    println!("control caught: {}", table.lines().next().unwrap());
}

/// The search of orders and the one of states have little in common. One runs all on the kernel, and relies on steps
/// that commute. The other relies on a model of the kernel, and on what makes two states different. Both find the same.
#[test]
fn both_searches_find_the_same_ends_and_the_same_histories() {
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    let cleaner = |file: &'static str| -> Box<dyn Fn() -> i32> { Box::new(move || clean(file)) };
    type Both<'a> = (&'static str, &'a dyn Fn(&str), Left, usize, &'a dyn Fn(&'static str) -> Works);
    let mixes: [Both; 4] = [
        ("a starter beside a holder without a claim", &nothing, Left::Something, 0, &|file| {
            vec![("H", Box::new(move || hold_without_a_claim(file))), ("A", starter(file))]
        }),
        ("a starter and a rude remover", &nothing, Left::Something, 0, &|file| {
            vec![("A", starter(file)), ("rude", Box::new(move || remove_rudely(file)))]
        }),
        ("a starter and a cleaner that locks", &stale, Left::Nothing, 0, &|file| {
            vec![("A", starter(file)), ("cleaner", cleaner(file))]
        }),
        ("two starters", &nothing, Left::Nothing, 2, &|file| vec![("A", starter(file)), ("B", starter(file))]),
    ];
    for (what, before, left, alike, works) in mixes {
        with_mix(By::States, what, before, left, alike, works, find_the_same);
    }
}

fn find_the_same(mix: &Mix) {
    let what = mix.what;
    let states = mix.search(None, u64::MAX, |scenario| explore_states(&whole(scenario))).unwrap();
    let brief = mix.search(None, u64::MAX, |scenario| explore_states(&Scenario { forgets: true, ..whole(scenario) }));
    let brief = brief.unwrap();
    assert!(states.complete && brief.complete);
    assert_eq!(brief.ends, states.ends, "{what}");
    assert_eq!(brief.all_orders.to_bits(), states.all_orders.to_bits(), "{what}");
    println!(
        "same: {what}: {:.1e} orders through {} states, or {} where processes forget",
        states.all_orders, states.states, brief.states
    );
    // The search of orders takes half a minute for two starters, and far too long for the first mix.
    if mix.works[0].0 == "H" || mix.works[1].0 == "B" && !full() {
        return;
    }
    let orders = mix.search(None, u64::MAX, |scenario| explore(&whole(scenario))).unwrap();
    assert!(orders.complete);
    assert_eq!(orders.ends, states.ends, "{what}");
    assert_eq!(orders.histories, states.histories, "{what}");
    println!("same: {what}: {} ends, {} histories, by {} orders", orders.ends.len(), orders.histories, orders.orders);
}

/// The same scenario, with all that a search can learn, and no bound.
fn whole<'a>(scenario: &'a Scenario<'a>) -> Scenario<'a> {
    Scenario {
        actors: scenario.actors.clone(),
        forgets: false,
        learns: true,
        most: u64::MAX,
        most_states: u64::MAX,
        ..*scenario
    }
}

fn search_faults(
    what: &'static str,
    before: &dyn Fn(&str),
    place: usize,
    works: impl Fn(&'static str) -> Works,
) -> Option<Result<(), String>> {
    with_mix(By::Orders, what, before, Left::Something, 0, works, |mix| fail_every_call(mix, place))
}

/// Every call of the process in this place fails once, with every error of its manual page, in every order with at most
/// one preemption. There are never two holders, nobody touches what is not theirs, and the name is free at the end.
fn fail_every_call(mix: &Mix, place: usize) -> Result<(), String> {
    let (mut calls, mut tried, mut faults, mut orders, mut runs) = (0, 0, 0, 0, 0);
    for call in calls_that_fail() {
        for nth in 0.. {
            let mut is_made = false;
            for (index, errno) in errors_of(call).1.iter().enumerate() {
                tried += 1;
                if !full() && index > 0 && tried % 25 != 0 {
                    continue;
                }
                let fault = Some(Fault { place, call, nth, errno: *errno });
                let covered = match (Mix { fault, ..*mix }).search(Some(1), u64::MAX, explore) {
                    Ok(covered) => covered,
                    Err(table) => {
                        let name = errors_of(call).0;
                        return Err(format!("with {fault:?}, a fault of {name}: {table}"));
                    }
                };
                if covered.struck == 0 {
                    break; // in no order is it called so often
                }
                is_made = true;
                faults += 1;
                (orders, runs) = (orders + covered.orders, runs + covered.runs);
            }
            if !is_made {
                break;
            }
            calls += 1;
        }
    }
    assert!(calls > 10, "{calls} calls failed");
    println!(
        "faults beside another: {}: {faults} of {calls} calls, in {orders} orders, all with at most 1 preemptions, \
         {runs} runs",
        mix.what
    );
    Ok(())
}

fn prove_with_faults(what: &'static str, before: &dyn Fn(&str), place: usize, works: impl Fn(&'static str) -> Works) {
    if let Some(Err(table)) = search_faults(what, before, place, works) {
        panic!("{table}");
    }
}

#[test]
fn every_call_of_one_of_two_starters_fails() {
    prove_with_faults("two starters", &nothing, 0, |file| vec![("A", starter(file)), ("B", starter(file))]);
}

#[test]
fn every_call_of_one_of_two_starters_over_a_stale_file_fails() {
    let stale = |file: &str| fs::write(file, "2147483647\n").unwrap();
    prove_with_faults("two starters over a stale file", &stale, 0, |file| {
        vec![("A", starter(file)), ("B", starter(file))]
    });
}

#[test]
fn every_call_of_a_waiter_or_of_the_starter_beside_it_fails() {
    let waiter = |file: &'static str| Box::new(move || hold(PidLock::options().wait(LONG), file));
    for place in [0, 1] {
        let what = ["a starter and a waiter, the starter", "a starter and a waiter, the waiter"][place];
        prove_with_faults(what, &nothing, place, |file| vec![("A", starter(file)), ("B", waiter(file))]);
    }
}

#[test]
fn taking_a_lock_that_failed_for_granted_is_found_by_a_fault() {
    let result = search_faults("a control with faults", &nothing, 0, |file| {
        let work = move || wrongly(Wrong::LockTakenForGranted, file);
        vec![("A", Box::new(work)), ("B", Box::new(work))]
    });
    if let Some(result) = result {
        let table = result.expect_err("the control was not caught");
        assert!(table.contains("changes a file that it has not locked"), "{table}");
        println!("control caught: {}", table.lines().next().unwrap());
    }
}
