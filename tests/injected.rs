//! Property 6: every failure of every call gives one clear error, and leaves no lock, no descriptor and no half-made file.
//!
//! Each operation runs once to list its calls. Then each call fails with each error of its manual page, alone and together
//! with a second failure. After each run the operation must work again.
#![cfg(all(target_os = "linux", target_pointer_width = "64", feature = "std"))]

mod harness;
mod support;

use harness::{
    errors::errors_of,
    trace::{self, MARK, Stop, Syscall, Traced, mark},
};
use pidflock::{Errno, Error, Holder, PidLock, Signal, State, Wait};
use std::{collections::BTreeSet, fs, os::fd::AsRawFd, time::Duration};
use support::*;

const BEGIN: i32 = 10;
const DONE: i32 = 11;

/// The call with this number between the marks fails with this errno.
type Fault = (usize, i32);

/// An operation in a child, with its initial state.
struct Operation {
    name: &'static str,
    /// In the test: creates the state, and returns what must live while the operation runs.
    before: fn(&str) -> Vec<Child>,
    /// In the child: runs before the faults begin, and acquires a lock if the operation needs one. Then the operation itself.
    prepare: fn(&str) -> Option<PidLock>,
    operate: fn(&str, Option<PidLock>) -> Result<(), Error>,
    /// Whether another process holds the name all the time.
    held: bool,
    /// Whether the operation releases the name: afterwards there is no lock, whatever failed.
    lets_go: bool,
    /// Whether the process keeps its lock, whatever failed.
    keeps: bool,
}

/// Longer than what a stamp overwrites.
const LONG_TEXT: &str = "more than thirty-two bytes of somebody else's text\n";

fn nobody(_: &str) -> Vec<Child> {
    vec![]
}

fn stale(file: &str) -> Vec<Child> {
    fs::write(file, "2147483647\n").unwrap();
    vec![]
}

fn holder(file: &str) -> Vec<Child> {
    let ready = Pipe::new();
    let child = fork(|| {
        let _lock = PidLock::options().sync(false).acquire(file).unwrap();
        ready.send(0);
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.receive();
    vec![child]
}

fn none(_: &str) -> Option<PidLock> {
    None
}

fn acquired(file: &str) -> Option<PidLock> {
    Some(PidLock::acquire(file).unwrap())
}

const ACQUIRE: Operation = Operation {
    name: "acquire",
    before: nobody,
    prepare: none,
    operate: |file, _| PidLock::acquire(file).map(std::mem::forget),
    held: false,
    lets_go: false,
    keeps: false,
};

/// Operations on a name that another process holds.
const HELD: Operation = Operation { before: holder, held: true, ..ACQUIRE };

/// Operations with a lock.
const OWNER: Operation = Operation { prepare: acquired, ..ACQUIRE };

const OPERATIONS: &[Operation] = &[
    ACQUIRE,
    Operation {
        name: "acquire with parents",
        before: |file| {
            fs::remove_dir(file.rsplit_once('/').unwrap().0).unwrap();
            vec![]
        },
        ..ACQUIRE
    },
    Operation { name: "acquire over a stale file", before: stale, ..ACQUIRE },
    Operation {
        name: "acquire with a mode",
        operate: |file, _| PidLock::options().mode(0o606).acquire(file).map(std::mem::forget),
        ..ACQUIRE
    },
    Operation {
        name: "acquire over a long text",
        before: |file| {
            fs::write(file, LONG_TEXT).unwrap();
            vec![]
        },
        ..ACQUIRE
    },
    Operation {
        name: "acquire with a closed standard input",
        prepare: |_| {
            unsafe { libc::close(0) };
            None
        },
        ..ACQUIRE
    },
    Operation { name: "acquire, refused", operate: |file, _| PidLock::acquire(file).map(drop), ..HELD },
    Operation {
        name: "acquire, waiting in vain",
        operate: |file, _| PidLock::options().wait(Wait::For(Duration::from_millis(3))).acquire(file).map(drop),
        ..HELD
    },
    Operation { name: "release", operate: |_, lock| lock.unwrap().release(), lets_go: true, ..OWNER },
    Operation {
        name: "release that leaves the file behind",
        prepare: |file| Some(PidLock::options().remove_on_release(false).acquire(file).unwrap()),
        operate: |_, lock| lock.unwrap().release(),
        lets_go: true,
        ..ACQUIRE
    },
    Operation {
        name: "look whether it is current, and read the claim",
        operate: |_, lock| {
            let lock = lock.unwrap();
            let result = lock.is_current().and_then(|_| pidflock::read_pid(&lock)).map(drop);
            std::mem::forget(lock);
            result
        },
        keeps: true,
        ..OWNER
    },
    Operation {
        name: "hand over and adopt what is not locked",
        prepare: |file| {
            let lock = PidLock::acquire(file).unwrap();
            assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_UN) }, 0);
            Some(lock)
        },
        operate: |file, lock| PidLock::adopt(lock.unwrap().hand_over()?, file).map(std::mem::forget),
        ..ACQUIRE
    },
    Operation {
        name: "restamp",
        operate: |_, lock| {
            let lock = lock.unwrap();
            let result = lock.restamp();
            std::mem::forget(lock);
            result
        },
        keeps: true,
        ..OWNER
    },
    Operation {
        name: "hand over and adopt",
        operate: |file, lock| PidLock::adopt(lock.unwrap().hand_over()?, file).map(std::mem::forget),
        ..OWNER
    },
    Operation { name: "probe of a held name", operate: |file, _| pidflock::probe(file).map(drop), ..HELD },
    Operation {
        name: "probe of a free name",
        before: stale,
        operate: |file, _| pidflock::probe(file).map(drop),
        ..ACQUIRE
    },
    Operation { name: "read", operate: |file, _| pidflock::read_pid_from(file).map(drop), ..HELD },
    Operation { name: "signal", operate: |file, _| pidflock::signal(file, Signal::CHECK).map(drop), ..HELD },
    Operation {
        name: "wait for a release in vain",
        operate: |file, _| pidflock::wait_released(file, Wait::For(Duration::from_millis(3))),
        ..HELD
    },
    Operation {
        name: "wait for one holder in vain",
        operate: |file, _| Holder::find(file)?.wait(Wait::For(Duration::from_millis(3))),
        ..HELD
    },
];

/// The result of a child's operation as a number: the errno of `Error::Sys`, or one of these.
const FINE: i32 = 0;
const REFUSED: i32 = 1001;
const REPLACED: i32 = 1002;
const NOT_LOCKED: i32 = 1003;
const NO_PID_FILE: i32 = 1004;
const OTHER: i32 = 1005;

fn report_of(result: Result<(), Error>) -> i32 {
    match result {
        Ok(()) => FINE,
        Err(Error::Sys { errno, .. }) => errno.as_raw(),
        Err(Error::AlreadyLocked { .. }) => REFUSED,
        Err(Error::Replaced) => REPLACED,
        Err(Error::NotLocked) => NOT_LOCKED,
        Err(Error::NotAPidFile) => NO_PID_FILE,
        Err(_) => OTHER,
    }
}

/// Runs the operation under these faults. Returns its calls and its result. Panics if anything is wrong afterwards.
fn run(operation: &Operation, directory: &str, faults: &[Fault]) -> (Vec<Syscall>, i32) {
    let nested = format!("{directory}/nested");
    let _ = fs::remove_dir_all(&nested);
    fs::create_dir(&nested).unwrap();
    let file: &str = &format!("{nested}/x.pid");
    let others = (operation.before)(file);
    let claim_before = fs::read(file).ok();
    let pipe = Pipe::new();
    let mut traced = Traced::spawn(|| {
        let lock = (operation.prepare)(file);
        let locked = lock.is_some();
        let before = descriptors();
        mark(BEGIN);
        let result = (operation.operate)(file, lock);
        mark(DONE);
        let after = descriptors();
        pipe.send(report_of(result));
        // Descriptors: two for a lock, and no others.
        let had = if locked { 2 } else { 0 };
        let has = usize::from(result.is_ok() && !operation.held && !operation.lets_go && fs::exists(file).unwrap()) * 2;
        let extra = after.len() as i64 - before.len() as i64;
        let expected: Vec<i64> = match operation.name {
            "probe of a free name" => vec![0],
            _ if operation.keeps || operation.held => vec![0],
            _ if result.is_ok() => vec![has as i64 - had],
            // adopt leaves a descriptor open that is not the file at the path.
            name if name.starts_with("hand over") => vec![-had, 1 - had],
            _ => vec![-had],
        };
        assert!(expected.contains(&extra), "{extra} descriptors more, and {expected:?} expected, after {result:?}");
        0
    })
    .unwrap();
    let pids: Vec<i32> = others.iter().map(|child| child.pid).chain([traced.pid, i32::MAX]).collect();
    let calls = follow(&mut traced, faults);
    let report = pipe.receive_within(0);
    // The child has ended, and its locks with it.
    let what = || {
        let faults: Vec<String> = faults
            .iter()
            .map(|(index, errno)| {
                let name = calls.get(*index).map_or("?", |call| errors_of(call.number).0);
                format!("{name} (call {index}) fails with {:?}", Errno::from_raw(*errno))
            })
            .collect();
        format!("{}: {}", operation.name, faults.join(", "))
    };
    let report = report.unwrap_or_else(|| panic!("{}: no report", what()));
    let claim = fs::read(file).ok();
    let text = claim.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if let Some(text) = &text {
        let number = text.trim_end_matches('\n');
        let whole = number.is_empty() || number.parse().is_ok_and(|number| pids.contains(&number));
        assert!(whole || text == LONG_TEXT, "{}: the file reads as {text:?}", what());
    }
    if operation.held {
        assert_eq!(claim, claim_before, "{}: the holder's file was changed", what());
        assert!(is_locked(file), "{}: the holder has lost its lock", what());
    } else {
        let acquired = operation.name.starts_with("acquire");
        let errnos: BTreeSet<i32> = faults.iter().map(|(_, errno)| *errno).collect();
        let refused_all_locks = faults
            .iter()
            .filter(|(index, _)| calls.get(*index).is_some_and(|call| call.number == libc::SYS_flock))
            .count()
            > 0;
        let could_not_look = faults.len() > 1 || refused_all_locks;
        if acquired && report != FINE && claim_before.is_none() && !could_not_look {
            assert!(claim.is_none(), "{}: {errnos:?} left a file that was not there: {text:?}", what());
        }
        let lock = PidLock::acquire(file).unwrap_or_else(|error| panic!("{}: and then: {error}", what()));
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{}\n", lock.pid()), "{}", what());
        lock.release().unwrap();
    }
    drop(others);
    (calls, report)
}

/// Runs the process to its end, and injects the failures into the calls between the marks.
fn follow(traced: &mut Traced, faults: &[Fault]) -> Vec<Syscall> {
    let (mut inside, mut calls) = (false, vec![]);
    loop {
        match traced.go_on() {
            Stop::Entry(call) if call.number == libc::SYS_prctl && call.int(0) == MARK => inside = call.int(1) == BEGIN,
            // In a debug build std checks whether a descriptor is open before it closes it.
            Stop::Entry(call) if call.number == libc::SYS_fcntl && call.int(1) == libc::F_GETFD => {}
            Stop::Entry(call) if inside && !errors_of(call.number).1.is_empty() => {
                let fault = faults.iter().find(|(index, _)| *index == calls.len());
                calls.push(call);
                match fault {
                    // A close that fails has closed nevertheless.
                    Some((_, errno)) if call.number == libc::SYS_close => {
                        traced.make();
                        traced.answer(-i64::from(*errno));
                    }
                    Some((_, errno)) => traced.replace(-i64::from(*errno)),
                    None => {}
                }
            }
            Stop::Ended(end) => {
                assert_eq!(end, End::Exit(0), "the child found something wrong, see above: {faults:?}");
                return calls;
            }
            _ => {}
        }
    }
}

/// Whether this result is right after such faults: the kernel's error, the result without faults, or the meaning of the error.
fn is_documented(report: i32, usual: i32, faults: &[Fault]) -> bool {
    let meant = |errno: i32| match errno {
        libc::ENOENT => vec![REPLACED, NOT_LOCKED, REFUSED, FINE], // in /proc: the process does not have the lock
        libc::EWOULDBLOCK => vec![REFUSED, FINE],
        libc::EEXIST => vec![FINE, libc::ENOENT], // ENOENT if it does not exist after all
        libc::EINTR | libc::EROFS | libc::EOPNOTSUPP => vec![FINE], // retried; nothing to flush
        libc::EINVAL => vec![FINE, REFUSED],      // nothing to flush; no process of that number
        libc::ESRCH | libc::ENOSYS | libc::EPERM | libc::EACCES | libc::ENODEV => vec![REFUSED, NOT_LOCKED, FINE],
        _ => vec![REFUSED], // contention is reported even if the holder cannot be found
    };
    report == usual || faults.iter().any(|(_, errno)| report == *errno || meant(*errno).contains(&report))
}

fn full() -> bool {
    std::env::var("PIDFLOCK_PROOF").is_ok_and(|proof| proof == "full")
}

/// Every call of these operations fails with every error of its manual page.
fn every_call_of(what: &str, chosen: impl Fn(&Operation) -> bool) {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        return skip(&reason);
    }
    trace::stay_on_one_processor();
    let directory = scratch.directory.to_str().unwrap();
    let (mut single, mut possible, mut pairs) = (0, 0, 0);
    for operation in OPERATIONS.iter().filter(|operation| chosen(operation)) {
        let (calls, usual) = run(operation, directory, &[]);
        for (index, call) in calls.iter().enumerate() {
            for errno in errors_of(call.number).1 {
                let fault = (index, *errno);
                let (after, report) = run(operation, directory, &[fault]);
                single += 1;
                assert!(
                    is_documented(report, usual, &[fault]),
                    "{}: {} (call {index}) with {:?} is reported as {report}",
                    operation.name,
                    errors_of(call.number).0,
                    Errno::from_raw(*errno)
                );
                assert!(
                    *errno != libc::EINTR || report == usual,
                    "{}: call {index} was not called again",
                    operation.name
                );
                // A second fault, in the handling of the first one or because of it.
                for (second, call) in after.iter().enumerate().skip(index + 1) {
                    for errno in errors_of(call.number).1 {
                        possible += 1;
                        // If there are many calls, most of them read /proc and are alike.
                        if full() || possible % if calls.len() > 40 { 240 } else { 60 } == 0 {
                            let faults = [fault, (second, *errno)];
                            let (_, report) = run(operation, directory, &faults);
                            pairs += 1;
                            assert!(is_documented(report, usual, &faults), "{}: {faults:?}: {report}", operation.name);
                        }
                    }
                }
            }
        }
        println!("operation: {}: {} calls", operation.name, calls.len());
    }
    println!("faults: {what}: {single} alone, {pairs} of {possible} pairs");
}

fn acquires(operation: &Operation) -> bool {
    operation.name.starts_with("acquire")
}

fn waits(operation: &Operation) -> bool {
    operation.name.contains("in vain")
}

#[test]
fn every_call_of_an_acquire_fails() {
    every_call_of("acquire", |operation| acquires(operation) && !waits(operation));
}

#[test]
fn every_call_of_a_wait_fails() {
    every_call_of("wait", waits);
}

#[test]
fn every_call_of_a_holder_fails() {
    every_call_of("release, restamp, hand over, adopt, is current", |operation| {
        !acquires(operation) && !operation.held && !operation.name.starts_with("probe")
    });
}

#[test]
fn every_call_of_a_query_fails() {
    every_call_of("probe, read, signal", |operation| {
        !acquires(operation) && !waits(operation) && (operation.held || operation.name.starts_with("probe"))
    });
}

/// Whatever /proc denies, the rest is enough.
#[test]
fn a_holder_is_signalled_although_any_one_read_of_proc_fails() {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        return skip(&reason);
    }
    let directory = scratch.directory.to_str().unwrap();
    let signal = OPERATIONS.iter().find(|operation| operation.name == "signal").unwrap();
    let (calls, usual) = run(signal, directory, &[]);
    assert_eq!(usual, FINE);
    // The first access to /proc is right before the first file that is opened there and read.
    let listed = calls.iter().position(|call| call.number == libc::SYS_getdents64).unwrap();
    let opened: Vec<usize> = (0..calls.len()).filter(|call| calls[*call].number == libc::SYS_openat).collect();
    let in_proc: Vec<usize> = opened.iter().copied().filter(|call| *call + 9 >= listed).collect();
    assert!(in_proc.len() > 8, "{} looks into /proc", in_proc.len());
    for call in in_proc {
        for errno in [libc::EACCES, libc::ENOENT] {
            let (_, report) = run(signal, directory, &[(call, errno)]);
            assert_eq!(report, FINE, "call {call} of {}, error {errno}", calls.len());
        }
    }
}

/// Between the check of the evidence and the signal, another process may get the file.
#[test]
fn a_holder_whose_file_is_replaced_while_proc_is_read_is_not_signalled() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    for (change, refused) in [("moved", Error::Replaced), ("emptied", Error::NotLocked), ("claimed", Error::NotLocked)]
    {
        let _ = fs::remove_file(path);
        let lock = PidLock::acquire(path).unwrap();
        let asker = || {
            mark(trace::BEGIN);
            assert_eq!(pidflock::signal(path, Signal::CHECK), Err(refused), "{change}");
        };
        let mut changed = false;
        let traced = trace::follow(asker, |_, stop| match stop {
            Stop::Entry(call) if !changed && call.number == libc::SYS_getdents64 => {
                match change {
                    "moved" => {
                        fs::rename(path, scratch.path("moved")).unwrap();
                        fs::write(path, "1\n").unwrap();
                    }
                    "emptied" => fs::write(path, "").unwrap(),
                    _ => fs::write(path, "1\n").unwrap(),
                }
                changed = true;
            }
            _ => {}
        });
        assert_eq!(traced, changed);
        drop(lock);
    }
}

/// A holder that ends while it is looked for has released the name: it is not locked by an unknown process.
#[test]
fn a_holder_that_releases_while_it_is_looked_for_holds_nothing() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("x.pid");
    let look = |name: &str| match name {
        "signal" => pidflock::signal(path, Signal::CHECK).map(drop),
        "find" => Holder::find(path).map(drop),
        _ => pidflock::probe(path).map(|state| assert_eq!(state, State::Held { holder: None })),
    };
    for (name, expected) in [("signal", Err(Error::NotLocked)), ("find", Err(Error::NotLocked)), ("probe", Ok(()))] {
        let mut lock = Some(PidLock::acquire(path).unwrap());
        let asker = || {
            mark(trace::BEGIN);
            assert_eq!(look(name), expected, "{name}");
        };
        let traced = trace::follow(asker, |_, stop| match stop {
            Stop::Entry(call) if call.number == libc::SYS_getdents64 => {
                lock.take().map_or(Ok(()), PidLock::release).unwrap();
            }
            _ => {}
        });
        assert_eq!(traced, lock.is_none());
    }
}

/// Some file systems find no file that is open and was removed: then it is as if there had been none.
#[test]
fn an_open_file_that_the_file_system_no_longer_finds_is_absent() {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        return skip(&reason);
    }
    let directory = scratch.directory.to_str().unwrap();
    let probe = OPERATIONS.iter().find(|operation| operation.name == "probe of a held name").unwrap();
    let (calls, usual) = run(probe, directory, &[]);
    assert_eq!(usual, FINE);
    let locked = calls.iter().position(|call| call.number == libc::SYS_flock).unwrap();
    for call in [locked, locked + 1] {
        let (_, report) = run(probe, directory, &[(call, libc::ENOENT)]);
        assert_eq!(report, FINE, "call {call}: {}", calls[call].number);
    }
}
