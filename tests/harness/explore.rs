//! Runs processes in every order of their system calls, and looks at the state after every one of them.
//!
//! A *step* is one system call that touches the lock file, its directory, a lock or a process. All else that a process
//! does is its own, and runs with the step before it. Orders that differ only in neighbours that commute are the same
//! order; two steps commute unless they touch the same thing and one of them changes it:
//!
//! | call | reads | changes |
//! |---|---|---|
//! | open of the file, fstatat of the name | the name | |
//! | open that creates, unlinkat | | the name |
//! | flock, close of a locked file | | the lock of that inode |
//! | fstat, pread | the content of that inode | |
//! | pwrite, ftruncate | | the content of that inode |
//! | pidfd_open, ppoll, kill with signal 0 | who lives | |
//! | getdents64 in /proc | who lives, all locks | |
//! | pidfd_send_signal | the name, all locks | who lives |
//! | exit, any other signal | | who lives, and the lock that it has |
//! | entering and leaving the critical section | | who is in it |
//!
//! Each class of equal orders is run at least once (sleep sets, Godefroid 1996). A sleep is not slept: the process waits
//! until another has made a step, since without one it would see what it has seen.

use super::trace::{Forker, MARK, Stop, Syscall, Traced, stay_on_one_processor};
use crate::support::End;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
};

/// Marks of the traced code: it believes that it holds the name; it is about to let go.
pub const ENTER: i32 = 1;
pub const LEAVE: i32 = 2;

/// What the processes of a scenario exit with.
pub const DONE: i32 = 0;
pub const REFUSED: i32 = 1;

/// One process of a scenario.
pub struct Actor<'a> {
    pub name: &'static str,
    pub work: &'a dyn Fn() -> i32,
    /// It removes the file without taking the lock, against which nothing helps but to harm nobody.
    pub rude: bool,
}

impl<'a> Actor<'a> {
    pub fn new(name: &'static str, work: &'a dyn Fn() -> i32) -> Actor<'a> {
        Actor { name, work, rude: false }
    }
}

pub struct Scenario<'a> {
    /// The directory of the lock file, and the file.
    pub directory: &'a str,
    pub file: &'a str,
    /// Makes the state in which every run begins.
    pub before: &'a dyn Fn(),
    pub actors: Vec<Actor<'a>>,
    /// More preemptions than this are not tried; None: every order.
    pub preemptions: Option<u32>,
    /// No more orders than this are run.
    pub most: u64,
}

/// What was covered.
#[derive(Debug, Default, Clone, Copy)]
pub struct Covered {
    pub orders: u64,
    /// How often the processes were run, also to find that an order is equal to another.
    pub runs: u64,
    pub steps: u64,
    /// Whether there was nothing left to try.
    pub complete: bool,
    /// How often a file of somebody else was removed between the last look and unlinkat, beside a rude actor: the one
    /// window that no kernel lets us close.
    pub windows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Name,
    Lock(u64),
    AnyLock,
    Content(u64),
    /// Who lives, and what /proc tells of it: which locks it has.
    Life,
    Section,
}

/// What a step touches, and whether it changes it.
type Touched = Vec<(Thing, bool)>;

fn commute(one: &Touched, other: &Touched) -> bool {
    one.iter().all(|(thing, changed)| other.iter().all(|(other, too)| !same(*thing, *other) || (!changed && !too)))
}

fn same(one: Thing, other: Thing) -> bool {
    one == other || matches!((one, other), (Thing::AnyLock, Thing::Lock(_)) | (Thing::Lock(_), Thing::AnyLock))
}

#[derive(Clone, Debug)]
struct Step {
    call: Syscall,
    what: String,
    touched: Touched,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lock { inode: u64, operation: i32 },
    Close { inode: u64 },
    StatName,
    Truncate,
    Change { inode: u64 },
    Unlink,
    Sleep,
    Signal { target: i32 },
    Mark(i32),
    End,
    Other,
}

struct Process {
    name: String,
    rude: bool,
    traced: Traced,
    next: Option<Step>,
    end: Option<End>,
    /// It has slept, and nobody has moved since.
    asleep: bool,
    /// The inode that it has locked exclusively.
    locked: Option<u64>,
    /// The inode on which it has a shared lock.
    shared: Option<u64>,
    /// Its last step looked at the name and found the file that it has locked.
    looked: bool,
    in_section: bool,
    /// What its descriptors lead to, as far as we have looked.
    inodes: BTreeMap<i32, u64>,
    /// Whether somebody held the file when it was last refused.
    refused_rightly: bool,
}

struct World<'a> {
    scenario: &'a Scenario<'a>,
    directory_inode: u64,
    processes: Vec<Process>,
    /// The files that we have opened ourselves, to ask about their locks and to read them.
    files: BTreeMap<u64, fs::File>,
    log: Vec<(String, String, String)>,
    /// Whether the log is to say what every call returned, for which each has to be stopped once more.
    told: bool,
    windows: u64,
}

/// The calls that may be steps.
const CALLS: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_flock,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_unlinkat,
    libc::SYS_close,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pidfd_open,
    libc::SYS_getdents64,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_prctl,
    libc::SYS_exit_group,
];

impl Process {
    /// What its descriptor leads to; 0 for one that is not open. Ends with `close`, the only call that frees a number.
    fn inode(&mut self, fd: i32) -> u64 {
        let look = || fs::metadata(format!("/proc/{}/fd/{fd}", self.traced.pid)).map_or(0, |metadata| metadata.ino());
        *self.inodes.entry(fd).or_insert_with(look)
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> World<'a> {
        (scenario.before)();
        let directory_inode = fs::metadata(scenario.directory).unwrap().ino();
        let mut world = World {
            scenario,
            directory_inode,
            processes: vec![],
            files: BTreeMap::new(),
            log: vec![],
            told,
            windows: 0,
        };
        for actor in &scenario.actors {
            world.add(actor.name.into(), actor.rude, forker.fork(), None);
        }
        world
    }

    fn add(&mut self, name: String, rude: bool, traced: Traced, locked: Option<u64>) {
        self.processes.push(Process {
            name,
            rude,
            traced,
            next: None,
            end: None,
            asleep: false,
            locked,
            shared: None,
            looked: false,
            in_section: false,
            inodes: BTreeMap::new(),
            refused_rightly: false,
        });
        let index = self.processes.len() - 1;
        let stop = self.processes[index].traced.go_on_to_a_call();
        self.advance(index, stop);
    }

    /// Lets a process run on from this stop until it is about to make a step, or has ended.
    fn advance(&mut self, index: usize, mut stop: Stop) {
        loop {
            match stop {
                Stop::Entry(call) => {
                    if let Some(step) = self.step_of(index, call) {
                        self.processes[index].next = Some(step);
                        return;
                    }
                }
                Stop::Forked(pid) => {
                    let name = format!("{}'s child", self.processes[index].name);
                    let (rude, locked) = (self.processes[index].rude, self.processes[index].locked);
                    self.add(name, rude, Traced::forked(pid), locked);
                }
                Stop::Ended(end) => {
                    self.processes[index].next = None;
                    self.processes[index].end = Some(end);
                    return;
                }
                Stop::Exit(_) | Stop::Signal(_) => {}
            }
            stop = self.processes[index].traced.go_on_to_a_call();
        }
    }

    /// The step that a call is, if it is one.
    fn step_of(&mut self, index: usize, call: Syscall) -> Option<Step> {
        let directory = self.directory_inode;
        let process = &mut self.processes[index];
        let mut inode = || process.inode(call.int(0));
        let other = Kind::Other;
        let (what, kind, touched) = match call.number {
            libc::SYS_openat if call.int(0) != libc::AT_FDCWD && inode() == directory => {
                let (creates, truncates) = (call.int(2) & libc::O_CREAT != 0, call.int(2) & libc::O_TRUNC != 0);
                let what = if creates { "openat, creating" } else { "openat" };
                let kind = if truncates { Kind::Truncate } else { other };
                (what.into(), kind, vec![(Thing::Name, creates)])
            }
            libc::SYS_flock => {
                let (inode, operation) = (inode(), call.int(1));
                let what = match operation & !libc::LOCK_NB {
                    libc::LOCK_EX => "exclusive",
                    libc::LOCK_SH => "shared",
                    _ => "unlock",
                };
                let wait = if operation & (libc::LOCK_NB | libc::LOCK_UN) == 0 { ", waiting" } else { "" };
                let what = format!("flock {what}{wait}, inode {inode}");
                (what, Kind::Lock { inode, operation }, vec![(Thing::Lock(inode), true)])
            }
            libc::SYS_newfstatat if call.int(3) & libc::AT_EMPTY_PATH == 0 => {
                if inode() != directory {
                    return None; // in /proc
                }
                ("fstatat of the name".into(), Kind::StatName, vec![(Thing::Name, false)])
            }
            libc::SYS_newfstatat | libc::SYS_fstat => {
                let inode = inode();
                (format!("fstat, inode {inode}"), other, vec![(Thing::Content(inode), false)])
            }
            libc::SYS_pread64 => {
                let inode = inode();
                (format!("pread, inode {inode}"), other, vec![(Thing::Content(inode), false)])
            }
            libc::SYS_pwrite64 | libc::SYS_ftruncate => {
                let inode = inode();
                let what = if call.number == libc::SYS_pwrite64 {
                    format!("pwrite of {}, inode {inode}", call.arguments[2])
                } else {
                    format!("ftruncate to {}, inode {inode}", call.arguments[1])
                };
                (what, Kind::Change { inode }, vec![(Thing::Content(inode), true)])
            }
            libc::SYS_unlinkat => ("unlinkat".into(), Kind::Unlink, vec![(Thing::Name, true)]),
            libc::SYS_close => {
                let closed = inode();
                process.inodes.remove(&call.int(0));
                let inode = process.locked.or(process.shared).filter(|locked| *locked == closed)?;
                (format!("close, inode {inode}"), Kind::Close { inode }, vec![(Thing::Lock(inode), true)])
            }
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => ("sleep".into(), Kind::Sleep, vec![]),
            libc::SYS_ppoll => match self.timeout(index, call.arguments[2]) {
                0 => ("ppoll".into(), other, vec![(Thing::Life, false)]),
                _ => ("ppoll, sleeping".into(), Kind::Sleep, vec![(Thing::Life, false)]),
            },
            libc::SYS_pidfd_open => ("pidfd_open".into(), other, vec![(Thing::Life, false)]),
            libc::SYS_getdents64 => {
                ("getdents64 in /proc".into(), other, vec![(Thing::Life, false), (Thing::AnyLock, false)])
            }
            libc::SYS_kill => (format!("kill {}", call.int(1)), other, vec![(Thing::Life, call.int(1) != 0)]),
            libc::SYS_pidfd_send_signal => {
                let target = self.target(index, call.int(0));
                let touched = vec![(Thing::Life, true), (Thing::AnyLock, false), (Thing::Name, false)];
                (format!("signal {} to {target}", call.int(1)), Kind::Signal { target }, touched)
            }
            libc::SYS_prctl if call.int(0) == MARK => {
                let what = if call.int(1) == ENTER { "-- holds the name" } else { "-- lets go" };
                (what.into(), Kind::Mark(call.int(1)), vec![(Thing::Section, true)])
            }
            libc::SYS_exit_group => {
                let mut touched = vec![(Thing::Life, true)];
                touched.extend(process.locked.map(|inode| (Thing::Lock(inode), true)));
                (format!("exit {}", call.int(0)), Kind::End, touched)
            }
            _ => return None,
        };
        Some(Step { call, what, touched, kind })
    }

    /// The nanoseconds in a timespec of the process.
    fn timeout(&self, index: usize, address: u64) -> i64 {
        let mut time = [0_i64; 2];
        let local = libc::iovec { iov_base: time.as_mut_ptr().cast(), iov_len: 16 };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: 16 };
        let pid = self.processes[index].traced.pid;
        let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        assert_eq!(read, 16);
        time[0] * 1_000_000_000 + time[1]
    }

    /// The process of a pidfd; -1 once it is dead and gone.
    fn target(&self, index: usize, pidfd: i32) -> i32 {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{pidfd}", self.processes[index].traced.pid)).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// The file that the process has open there, opened once more.
    fn file(&mut self, index: usize, fd: i32) -> &fs::File {
        let process = &mut self.processes[index];
        let path = format!("/proc/{}/fd/{fd}", process.traced.pid);
        self.files.entry(process.inode(fd)).or_insert_with(|| fs::File::open(path).unwrap())
    }

    /// Whether a lock of this kind could be had on the file that the process has open there: the kernel's own word.
    fn could_lock(&mut self, index: usize, fd: i32, operation: i32) -> bool {
        let file = self.file(index, fd).as_raw_fd();
        let could = unsafe { libc::flock(file, operation | libc::LOCK_NB) } == 0;
        unsafe { libc::flock(file, libc::LOCK_UN) };
        could
    }

    /// Who can make a step.
    fn ready(&mut self) -> Vec<usize> {
        let mut all = vec![];
        for index in 0..self.processes.len() {
            let can = match &self.processes[index].next {
                Some(Step { kind: Kind::Lock { operation, .. }, call, .. })
                    if operation & (libc::LOCK_NB | libc::LOCK_UN) == 0 =>
                {
                    let (fd, operation) = (call.int(0), *operation);
                    self.could_lock(index, fd, operation)
                }
                next => next.is_some(),
            };
            if can {
                all.push(index);
            }
        }
        let awake: Vec<usize> = all.iter().copied().filter(|index| !self.processes[*index].asleep).collect();
        if awake.is_empty() { all } else { awake }
    }

    fn touched(&self, index: usize) -> &Touched {
        &self.processes[index].next.as_ref().unwrap().touched
    }

    /// Lets a process make its step, and says what is wrong afterwards.
    fn step(&mut self, index: usize) -> Result<(), String> {
        let step = self.processes[index].next.take().unwrap();
        let before = self.before_step(index, &step);
        let fd = step.call.int(0);
        let traced = &mut self.processes[index].traced;
        let stop = match step.kind {
            Kind::Sleep => {
                traced.replace(0);
                Stop::Exit(0)
            }
            Kind::Lock { .. } => traced.make(),
            _ if self.told => traced.make(),
            _ => traced.go_on_to_a_call(),
        };
        let result = if let Stop::Exit(value) = stop { value } else { 0 };
        if self.told {
            let said = if matches!(step.kind, Kind::End | Kind::Sleep) { String::new() } else { said(result) };
            self.log.push((self.processes[index].name.clone(), step.what.clone(), said));
        }
        before?;
        let after = self.after_step(index, &step, fd, result);
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.asleep = other == index && step.kind == Kind::Sleep;
        }
        after?;
        self.advance(index, stop);
        match self.processes[index].end {
            Some(End::Exit(REFUSED)) if !self.processes[index].refused_rightly => {
                Err(format!("{} was refused, and nobody held the name", self.processes[index].name))
            }
            Some(End::Exit(DONE | REFUSED) | End::Signal(_)) | None => Ok(()),
            Some(end) => Err(format!("{} ended with {end:?}", self.processes[index].name)),
        }
    }

    fn before_step(&mut self, index: usize, step: &Step) -> Result<(), String> {
        let looked = std::mem::take(&mut self.processes[index].looked);
        let process = &self.processes[index];
        match step.kind {
            Kind::Unlink if !process.rude => {
                let there = fs::symlink_metadata(self.scenario.file).ok().map(|metadata| metadata.ino());
                if there.is_none() || there == process.locked || there == process.shared {
                    Ok(())
                } else if looked && self.processes.iter().any(|process| process.rude) {
                    self.windows += 1;
                    Ok(())
                } else {
                    Err(format!("{} removes a file that it has not locked", process.name))
                }
            }
            Kind::Truncate if fs::metadata(self.scenario.file).is_ok_and(|metadata| metadata.len() > 0) => {
                Err(format!("{} truncates a file that it has not locked", process.name))
            }
            Kind::Signal { target }
                if self
                    .processes
                    .iter()
                    .any(|other| other.traced.pid == target && other.end.is_none() && other.locked.is_none()) =>
            {
                Err(format!("{} signals a process that does not hold the name", process.name))
            }
            Kind::Change { inode } if process.locked != Some(inode) => {
                Err(format!("{} changes a file that it has not locked", process.name))
            }
            _ => Ok(()),
        }
    }

    fn after_step(&mut self, index: usize, step: &Step, fd: i32, result: i64) -> Result<(), String> {
        match step.kind {
            Kind::Lock { inode, operation } => {
                let held = |(other, process): (usize, &Process)| {
                    other != index && process.in_section && process.locked == Some(inode)
                };
                if operation == libc::LOCK_UN
                    && self.processes.iter().enumerate().any(held)
                    && self.could_lock(index, fd, libc::LOCK_SH)
                {
                    return Err(format!("{} unlocks what another holds", self.processes[index].name));
                }
                let exclusive = operation & libc::LOCK_EX != 0;
                if result == 0 {
                    self.processes[index].locked = exclusive.then_some(inode);
                    self.processes[index].shared = (operation & libc::LOCK_SH != 0).then_some(inode);
                } else if exclusive {
                    self.processes[index].refused_rightly = !self.could_lock(index, fd, libc::LOCK_SH);
                }
            }
            Kind::Close { .. } => (self.processes[index].locked, self.processes[index].shared) = (None, None),
            Kind::StatName => {
                let there = fs::symlink_metadata(self.scenario.file).ok().map(|metadata| metadata.ino());
                self.processes[index].looked = there.is_some() && there == self.processes[index].locked;
            }
            Kind::Change { .. } => {
                let mut bytes = [0; 4096];
                let length = self.file(index, fd).read_at(&mut bytes, 0).unwrap();
                let content = String::from_utf8_lossy(&bytes[..length]);
                let number = content.trim_end_matches('\n');
                if !number.is_empty() && number.parse::<i32>().is_err() {
                    return Err(format!("the file reads as {content:?}"));
                }
            }
            Kind::Mark(ENTER) => {
                self.processes[index].in_section = true;
                let holders: Vec<&str> =
                    self.processes.iter().filter(|process| process.in_section).map(|p| p.name.as_str()).collect();
                if holders.len() > 1 && !self.processes.iter().any(|process| process.rude) {
                    return Err(format!("two holders: {}", holders.join(" and ")));
                }
            }
            Kind::Mark(_) => self.processes[index].in_section = false,
            _ => {}
        }
        Ok(())
    }
}

/// What is wrong, and the schedule that leads there as a table, for a person to follow. Runs it once more, to say what
/// each call returned.
fn table(scenario: &Scenario, forker: &mut Forker, schedule: &[Choice], wrong: &str) -> String {
    let mut world = World::new(scenario, forker, true);
    let again = schedule.iter().try_for_each(|choice| world.step(choice.chosen));
    let mut text = format!("{}\n\n", again.err().unwrap_or_else(|| wrong.into()));
    for (number, (who, what, result)) in world.log.iter().enumerate() {
        let column = world.processes.iter().position(|process| process.name == *who).unwrap_or(0);
        let _ = writeln!(text, "{:>4}  {}{who}: {what} {result}", number + 1, " ".repeat(column * 24));
    }
    text
}

fn said(result: i64) -> String {
    match i32::try_from(-result) {
        Ok(errno @ 1..=4095) => format!("-> {}", std::io::Error::from_raw_os_error(errno)),
        _ => format!("-> {result}"),
    }
}

/// One point at which a process was chosen.
struct Choice {
    ready: Vec<usize>,
    /// Who need not be tried here: what begins with its step has been covered elsewhere.
    sleeping: BTreeSet<usize>,
    tried: BTreeSet<usize>,
    chosen: usize,
    last: Option<usize>,
    preemptions: u32,
}

impl Choice {
    fn cost(&self, candidate: usize) -> u32 {
        let preempts = self.last.is_some_and(|last| last != candidate && self.ready.contains(&last));
        self.preemptions + u32::from(preempts)
    }

    fn next(&self, most: Option<u32>) -> Option<usize> {
        let first = self.last.filter(|last| self.ready.contains(last));
        first.into_iter().chain(self.ready.iter().copied()).find(|candidate| {
            !self.sleeping.contains(candidate)
                && !self.tried.contains(candidate)
                && most.is_none_or(|most| self.cost(*candidate) <= most)
        })
    }
}

/// Runs the scenario in every order, up to those that are equal. An order in which something is wrong is returned as a
/// table.
pub fn explore(scenario: &Scenario) -> Result<Covered, String> {
    stay_on_one_processor();
    let works: Vec<&dyn Fn() -> i32> = scenario.actors.iter().map(|actor| actor.work).collect();
    let mut forker = Forker::new(CALLS, &works).map_err(|error| error.to_string())?;
    let mut choices: Vec<Choice> = vec![];
    let mut covered = Covered::default();
    loop {
        let mut world = World::new(scenario, &mut forker, false);
        let (mut depth, mut sleeping, mut last, mut preemptions) = (0, BTreeSet::new(), None, 0);
        let redundant = loop {
            let ready = world.ready();
            if ready.is_empty() {
                if world.processes.iter().any(|process| process.end.is_none()) {
                    return Err(table(scenario, &mut forker, &choices, "wedged: nobody can go on"));
                }
                break false;
            }
            if depth == choices.len() {
                let mut choice = Choice { ready, sleeping, tried: BTreeSet::new(), chosen: 0, last, preemptions };
                let Some(chosen) = choice.next(scenario.preemptions) else { break true };
                choice.chosen = chosen;
                choices.push(choice);
            }
            let choice = &choices[depth];
            let chosen = choice.chosen;
            let touched = world.touched(chosen).clone();
            let stays = |index: &usize| *index != chosen && commute(world.touched(*index), &touched);
            sleeping = match scenario.preemptions {
                None => choice.sleeping.union(&choice.tried).copied().filter(stays).collect(),
                Some(_) => BTreeSet::new(), // a bound and sleep sets would each leave out what the other relies on
            };
            (last, preemptions) = (Some(chosen), choice.cost(chosen));
            if let Err(wrong) = world.step(chosen) {
                drop(world);
                return Err(table(scenario, &mut forker, &choices[..=depth], &wrong));
            }
            covered.steps += 1;
            depth += 1;
        };
        covered.runs += 1;
        covered.windows += world.windows;
        covered.orders += u64::from(!redundant);
        loop {
            let Some(choice) = choices.last_mut() else {
                return Ok(Covered { complete: true, ..covered });
            };
            choice.tried.insert(choice.chosen);
            if let Some(next) = choice.next(scenario.preemptions) {
                choice.chosen = next;
                break;
            }
            choices.pop();
        }
        if covered.orders >= scenario.most {
            return Ok(covered);
        }
    }
}
