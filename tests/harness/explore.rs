//! Runs processes in every order of their system calls, and looks at the state after every one of them.
//!
//! A *step* is one system call that touches the lock file, its directory, a lock or a process. All else that a process
//! does is its own, and runs with the step before it. Orders that differ only in neighbours that commute are the same
//! order; two steps commute unless they touch the same thing and one of them changes it:
//!
//! | call | reads | changes |
//! |---|---|---|
//! | open of the file | the name | its descriptors |
//! | open that creates (truncates) | | the name, its descriptors (all content) |
//! | unlinkat | | the name |
//! | fstatat of the name | the name | |
//! | flock | | the lock of that inode |
//! | close of a locked file | | the lock of that inode, its descriptors |
//! | fstat | the content of that inode, the name (for the number of links) | |
//! | pread | the content of that inode | |
//! | pwrite, ftruncate | | the content of that inode |
//! | pidfd_open, ppoll, kill with signal 0 | who lives | |
//! | any look into /proc | who lives, all locks, all descriptors | |
//! | pidfd_send_signal | the name, all locks | who lives |
//! | exit | | who lives, its descriptors, the lock that it has |
//! | death, any other signal | | who lives, all descriptors, all locks; and whatever the process would do |
//! | entering and leaving the critical section | | who is in it |
//!
//! Why that is sound: what a call returns, and what it does, depends on what it reads and changes alone; two calls that
//! share nothing, or only read what they share, return and leave behind the same in either order, and neither lets or
//! keeps the other from being made. (A flock that waits is made only once it would get the lock, which is what it
//! touches.) All else that a process calls is its own business: getpid, the clock, the opening of its directory, fsync on
//! tmpfs, the closing of a file that it has not locked.
//!
//! Each class of equal orders is run at least once (sleep sets: Godefroid, Partial-Order Methods for the Verification of
//! Concurrent Systems, 1996). Where preemptions are bounded, of two equal orders only one may be within the bound, and
//! sleep sets would not do: there every order within the bound is begun, and a beginning that equals an earlier one, with
//! the same process last and no more preemptions left, is not continued a second time.
//!
//! A sleep is not slept, and is no step: the process waits until another has changed what it has looked at since it slept
//! last, for until then it would see what it has seen. When all sleep, all wake. That nobody gives up while the others
//! have no chance to move is what we ask of the clock. So an order is cut off where a process has looked four times in a
//! row at nothing but shared locks: a starter gives up on them after forty looks and 0.1 seconds, as is documented.

use super::trace::{Forker, MARK, Stop, Syscall, Traced, stay_on_one_processor};
use crate::support::End;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    sync::LazyLock,
};

/// Marks of the traced code: it believes that it holds the name; it is about to let go.
pub const ENTER: i32 = 1;
pub const LEAVE: i32 = 2;
/// What `is_current` has just told it.
pub const CURRENT: i32 = 3;
pub const NOT_CURRENT: i32 = 4;
/// It asks for the death of the first process of the scenario, by SIGKILL, wherever that stands.
pub const KILL: i32 = 5;

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
    /// Whether the file is gone once all have ended.
    pub leaves_nothing: bool,
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
    /// How often something changed between the last look and what was done, which no kernel lets us do in one: a file of
    /// somebody else was removed, beside a rude actor; the holder was signalled just after it had let go.
    pub windows: u64,
    /// How many orders were cut off, because somebody with a shared lock stood still for too long.
    pub cut: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Name,
    Lock(u64),
    AnyLock,
    Content(u64),
    AnyContent,
    /// What a process, by its place in the scenario, has open.
    Descriptors(usize),
    AnyDescriptors,
    /// Who lives.
    Life,
    /// That this process lives: all that it does depends on it.
    Alive(usize),
    Section,
}

/// What a step touches, and whether it changes it.
type Touched = Vec<(Thing, bool)>;

fn commute(one: &Touched, other: &Touched) -> bool {
    one.iter().all(|(thing, changed)| other.iter().all(|(other, too)| !same(*thing, *other) || (!changed && !too)))
}

fn same(one: Thing, other: Thing) -> bool {
    use Thing::*;
    let within = |any, one| {
        matches!((any, one), (AnyLock, Lock(_)) | (AnyContent, Content(_)) | (AnyDescriptors, Descriptors(_)))
    };
    one == other || within(one, other) || within(other, one)
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
    /// It has slept, and nobody has changed what it has seen.
    asleep: bool,
    /// What it has touched since it slept last, and whether another has changed any of it since it was touched.
    seen: BTreeSet<Thing>,
    news: bool,
    /// The inode that it has locked exclusively.
    locked: Option<u64>,
    /// The inode on which it has a shared lock.
    shared: Option<u64>,
    /// Its last step looked at the name, and whether it found the file that it has locked.
    looked: Option<bool>,
    in_section: bool,
    /// What its descriptors lead to, as far as we have looked.
    inodes: BTreeMap<i32, u64>,
    /// Whether somebody held the file when it was last refused.
    refused_rightly: bool,
    /// How often in a row it was refused the lock although nobody held the file.
    refused_wrongly: u32,
    /// Who held the file when it last asked for a lock and did not get it.
    refused_by: Vec<i32>,
}

/// What has happened, up to the order of steps that commute: equal for equal orders, whatever the numbers of processes
/// and files.
#[derive(Default)]
struct Past {
    /// Of each thing: all steps that have changed it, and all that have only read it.
    things: BTreeMap<Thing, (u64, u64)>,
    /// Of each process: its steps.
    steps: BTreeMap<String, u64>,
    all: u64,
}

impl Past {
    /// A step is what it is by its process, by the steps that this has made before, and by those that have changed what it
    /// reads, or touched what it changes.
    fn add(&mut self, process: &str, touched: &Touched) {
        let own = self.steps.entry(process.into()).or_default();
        let mut hasher = DefaultHasher::new();
        (process, *own).hash(&mut hasher);
        for (thing, changed) in touched {
            let met = self.things.iter().filter(|(other, _)| same(*thing, **other)).map(|(_, steps)| steps);
            let sum = met.fold(0_u64, |sum, (changes, reads)| {
                sum.wrapping_add(*changes).wrapping_add(if *changed { *reads } else { 0 })
            });
            sum.hash(&mut hasher);
        }
        let step = hasher.finish();
        *own = own.wrapping_add(step);
        self.all = self.all.wrapping_add(step);
        for (thing, changed) in touched {
            let (changes, reads) = self.things.entry(*thing).or_default();
            let sum = if *changed { changes } else { reads };
            *sum = sum.wrapping_add(step);
        }
    }
}

struct World<'a> {
    scenario: &'a Scenario<'a>,
    directory: u64,
    device: u64,
    processes: Vec<Process>,
    /// What stood in the file at the beginning, as a number.
    stale: Option<i32>,
    /// The files that we have opened ourselves, to ask about their locks and to read them.
    files: BTreeMap<u64, fs::File>,
    log: Vec<(String, String, String)>,
    /// Whether the log is to say what every call returned, for which each has to be stopped once more.
    told: bool,
    windows: u64,
    cut: bool,
    past: Past,
}

/// After which the kernel begins again with small numbers.
static LAST_PID: LazyLock<i32> =
    LazyLock::new(|| fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap());

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

/// In the place of an inode: what is on another file system, as /proc is, or is not open.
const ELSEWHERE: u64 = 0;

impl Process {
    /// What its descriptor leads to. Ends with `close`, the only call that frees a number.
    fn inode(&mut self, fd: i32, device: u64) -> u64 {
        let look = || match fs::metadata(format!("/proc/{}/fd/{fd}", self.traced.pid)) {
            Ok(metadata) if metadata.dev() == device => metadata.ino(),
            _ => ELSEWHERE,
        };
        *self.inodes.entry(fd).or_insert_with(look)
    }

    /// It goes on, and looks at all of it anew.
    fn wake(&mut self) {
        (self.asleep, self.news) = (false, false);
        self.seen.clear();
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> World<'a> {
        loop {
            let world = World::with_any_pids(scenario, forker, told);
            if world.has_even_pids() {
                return world;
            }
        }
    }

    /// Whether the PIDs of this run, those of children to come included, have all the same number of digits. Where they
    /// have not, one stamp more is cut off behind the other, and the run would not be like the others.
    fn has_even_pids(&self) -> bool {
        let pids: Vec<i32> = self.processes.iter().map(|process| process.traced.pid).collect();
        let (least, most) = (pids.iter().min().unwrap(), pids.iter().max().unwrap());
        (*most..most + 50).chain([*least]).all(|pid| pid < *LAST_PID && pid.ilog10() == most.ilog10())
    }

    fn with_any_pids(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> World<'a> {
        (scenario.before)();
        let directory = fs::metadata(scenario.directory).unwrap();
        let mut world = World {
            scenario,
            directory: directory.ino(),
            device: directory.dev(),
            stale: fs::read_to_string(scenario.file).ok().and_then(|text| text.trim_end().parse().ok()),
            processes: vec![],
            files: BTreeMap::new(),
            log: vec![],
            told,
            windows: 0,
            cut: false,
            past: Past::default(),
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
            seen: BTreeSet::new(),
            news: false,
            locked,
            shared: None,
            looked: None,
            in_section: false,
            inodes: BTreeMap::new(),
            refused_rightly: false,
            refused_wrongly: 0,
            refused_by: vec![],
        });
        let index = self.processes.len() - 1;
        let stop = self.processes[index].traced.go_on_to_a_call();
        self.advance(index, stop);
    }

    /// Lets a process run on from this stop until it is about to make a step, or has ended.
    fn advance(&mut self, index: usize, mut stop: Stop) {
        loop {
            match stop {
                Stop::Entry(call) if self.is_sleep(index, call) => {
                    let process = &mut self.processes[index];
                    process.traced.replace(0);
                    if process.news {
                        process.wake()
                    } else {
                        process.asleep = true
                    }
                    if self.told {
                        self.log.push((process.name.clone(), "sleeps".into(), String::new()));
                    }
                }
                Stop::Entry(call) => {
                    if let Some(mut step) = self.step_of(index, call) {
                        step.touched.push((Thing::Alive(index), false));
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

    fn is_sleep(&mut self, index: usize, call: Syscall) -> bool {
        match call.number {
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => true,
            libc::SYS_ppoll if self.timeout(index, call.arguments[2]) > 0 => {
                self.processes[index].seen.insert(Thing::Life); // the process that it waits for
                true
            }
            _ => false,
        }
    }

    /// The step that a call is, if it is one.
    fn step_of(&mut self, index: usize, call: Syscall) -> Option<Step> {
        use Thing::*;
        let device = self.device;
        let opens_proc = call.number == libc::SYS_openat && self.text(index, call.arguments[1], 6) == b"/proc/";
        let process = &mut self.processes[index];
        let mut inode = || process.inode(call.int(0), device);
        let look_into_proc = |what: &str| {
            let touched = vec![(Life, false), (AnyLock, false), (AnyDescriptors, false)];
            Some(Step { call, what: format!("{what} in /proc"), touched, kind: Kind::Other })
        };
        let other = Kind::Other;
        let (what, kind, touched) = match call.number {
            libc::SYS_openat if opens_proc => return look_into_proc("openat"),
            libc::SYS_openat if call.int(0) == libc::AT_FDCWD => return None,
            libc::SYS_openat if inode() == ELSEWHERE => return look_into_proc("openat"),
            libc::SYS_openat => {
                let (creates, truncates) = (call.int(2) & libc::O_CREAT != 0, call.int(2) & libc::O_TRUNC != 0);
                let what = if creates { "openat, creating" } else { "openat" };
                let kind = if truncates { Kind::Truncate } else { other };
                let mut touched = vec![(Name, creates), (Descriptors(index), true)];
                touched.extend(truncates.then_some((AnyContent, true)));
                (what.into(), kind, touched)
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
                (what, Kind::Lock { inode, operation }, vec![(Lock(inode), true)])
            }
            libc::SYS_newfstatat if call.int(3) & libc::AT_EMPTY_PATH == 0 => match inode() {
                ELSEWHERE => return look_into_proc("fstatat"),
                _ => ("fstatat of the name".into(), Kind::StatName, vec![(Name, false)]),
            },
            libc::SYS_newfstatat | libc::SYS_fstat => match inode() {
                ELSEWHERE => return look_into_proc("fstat"),
                inode => (format!("fstat, inode {inode}"), other, vec![(Content(inode), false), (Name, false)]),
            },
            libc::SYS_pread64 => match inode() {
                ELSEWHERE => return look_into_proc("pread"),
                inode => (format!("pread, inode {inode}"), other, vec![(Content(inode), false)]),
            },
            libc::SYS_pwrite64 | libc::SYS_ftruncate => {
                let inode = inode();
                let what = if call.number == libc::SYS_pwrite64 {
                    format!("pwrite of {}, inode {inode}", call.arguments[2])
                } else {
                    format!("ftruncate to {}, inode {inode}", call.arguments[1])
                };
                (what, Kind::Change { inode }, vec![(Content(inode), true)])
            }
            libc::SYS_unlinkat => ("unlinkat".into(), Kind::Unlink, vec![(Name, true)]),
            libc::SYS_close => {
                let closed = inode();
                process.inodes.remove(&call.int(0));
                let inode = process.locked.or(process.shared).filter(|locked| *locked == closed)?;
                let touched = vec![(Lock(inode), true), (Descriptors(index), true)];
                (format!("close, inode {inode}"), Kind::Close { inode }, touched)
            }
            libc::SYS_ppoll => ("ppoll".into(), other, vec![(Life, false)]),
            libc::SYS_pidfd_open => ("pidfd_open".into(), other, vec![(Life, false)]),
            libc::SYS_getdents64 => return look_into_proc("getdents64"),
            libc::SYS_kill if call.int(1) == 0 => ("kill 0".into(), other, vec![(Life, false)]),
            libc::SYS_kill => {
                let touched = vec![(Life, true), (AnyLock, true), (AnyDescriptors, true)];
                (format!("kill {}", call.int(1)), Kind::Signal { target: call.int(0) }, touched)
            }
            libc::SYS_pidfd_send_signal => {
                let target = self.target(index, call.int(0));
                let touched = vec![(Life, true), (AnyLock, false), (Name, false)];
                (format!("signal {} to {target}", call.int(1)), Kind::Signal { target }, touched)
            }
            libc::SYS_prctl if call.int(0) == MARK => match call.int(1) {
                ENTER => ("-- holds the name".into(), Kind::Mark(ENTER), vec![(Section, true)]),
                LEAVE => ("-- lets go".into(), Kind::Mark(LEAVE), vec![(Section, true)]),
                KILL => {
                    let touched =
                        vec![(Life, true), (AnyLock, true), (AnyDescriptors, true), (Section, true), (Alive(0), true)];
                    (format!("-- {} is killed", self.processes[0].name), Kind::Mark(KILL), touched)
                }
                code => {
                    let what = if code == CURRENT { "-- it is current" } else { "-- it is not current" };
                    (what.into(), Kind::Mark(code), vec![])
                }
            },
            libc::SYS_exit_group => {
                let mut touched = vec![(Life, true), (Descriptors(index), true)];
                touched.extend(process.locked.or(process.shared).map(|inode| (Lock(inode), true)));
                (format!("exit {}", call.int(0)), Kind::End, touched)
            }
            _ => return None,
        };
        Some(Step { call, what, touched, kind })
    }

    /// Bytes of the process, as many as there are.
    fn text(&self, index: usize, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; length];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: length };
        let pid = self.processes[index].traced.pid;
        let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        bytes.truncate(read.try_into().unwrap_or(0));
        bytes
    }

    /// The nanoseconds in a timespec of the process.
    fn timeout(&self, index: usize, address: u64) -> i64 {
        let bytes = self.text(index, address, 16);
        let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        word(0) * 1_000_000_000 + word(8)
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
        self.files.entry(process.inode(fd, self.device)).or_insert_with(|| fs::File::open(path).unwrap())
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
        if all.iter().all(|index| self.processes[*index].asleep) {
            self.processes.iter_mut().for_each(Process::wake);
        }
        all.retain(|index| !self.processes[*index].asleep);
        all
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
            Kind::Lock { .. } => traced.make(),
            _ if self.told => traced.make(),
            _ => traced.go_on_to_a_call(),
        };
        let result = if let Stop::Exit(value) = stop { value } else { 0 };
        if self.told {
            let said = if matches!(step.kind, Kind::End | Kind::Mark(_)) { String::new() } else { said(result) };
            self.log.push((self.processes[index].name.clone(), step.what.clone(), said));
        }
        before?;
        self.after_step(index, &step, fd, result)?;
        self.past.add(&self.processes[index].name, &step.touched);
        let changed = |thing: &Thing| step.touched.iter().any(|(other, changed)| *changed && same(*thing, *other));
        for (other, process) in self.processes.iter_mut().enumerate() {
            if other == index {
                process.seen.extend(step.touched.iter().map(|(thing, _)| *thing));
            } else if process.seen.iter().any(changed) {
                if process.asleep { process.wake() } else { process.news = true }
            }
        }
        self.advance(index, stop);
        match self.processes[index].end {
            Some(End::Exit(REFUSED)) if !self.processes[index].refused_rightly => {
                Err(format!("{} was refused, and nobody held the name", self.processes[index].name))
            }
            Some(End::Exit(DONE | REFUSED) | End::Signal(_)) | None => Ok(()),
            Some(end) => Err(format!("{} ended with {end:?}", self.processes[index].name)),
        }
    }

    /// The inode at the path, if there is one.
    fn named(&self) -> Option<u64> {
        fs::symlink_metadata(self.scenario.file).ok().map(|metadata| metadata.ino())
    }

    fn before_step(&mut self, index: usize, step: &Step) -> Result<(), String> {
        let looked = std::mem::take(&mut self.processes[index].looked);
        let process = &self.processes[index];
        match step.kind {
            Kind::Unlink if !process.rude => {
                let there = self.named();
                if there.is_none() || there == process.locked || there == process.shared {
                    Ok(())
                } else if looked == Some(true) && self.processes.iter().any(|process| process.rude) {
                    self.windows += 1;
                    Ok(())
                } else {
                    Err(format!("{} removes a file that it has not locked", process.name))
                }
            }
            Kind::Truncate if fs::metadata(self.scenario.file).is_ok_and(|metadata| metadata.len() > 0) => {
                Err(format!("{} truncates a file that it has not locked", process.name))
            }
            Kind::Signal { target } => {
                let named = self.named();
                let hit = self.processes.iter().find(|other| other.traced.pid == target && other.end.is_none());
                match hit {
                    Some(hit) if hit.locked.is_some() && hit.locked == named => Ok(()),
                    Some(_) if process.refused_by.contains(&target) => {
                        self.windows += 1; // the holder that it is has let go since the last look
                        Ok(())
                    }
                    Some(_) => Err(format!("{} signals a process that does not hold the name", process.name)),
                    None => Ok(()),
                }
            }
            Kind::Change { inode } if process.locked != Some(inode) => {
                Err(format!("{} changes a file that it has not locked", process.name))
            }
            Kind::Mark(code @ (CURRENT | NOT_CURRENT)) if looked != Some(code == CURRENT) => {
                Err(format!("{} is told the contrary of what is so by is_current", process.name))
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
                let holds = |other: &&Process| other.locked == Some(inode);
                let holders = self.processes.iter().filter(holds).map(|other| other.traced.pid).collect();
                self.processes[index].refused_by = holders;
                let exclusive = operation & libc::LOCK_EX != 0;
                if result == 0 {
                    self.processes[index].locked = exclusive.then_some(inode);
                    self.processes[index].shared = (operation & libc::LOCK_SH != 0).then_some(inode);
                } else if exclusive {
                    let rightly = !self.could_lock(index, fd, libc::LOCK_SH);
                    let process = &mut self.processes[index];
                    process.refused_rightly = rightly;
                    process.refused_wrongly = if rightly { 0 } else { process.refused_wrongly + 1 };
                    self.cut |= process.refused_wrongly > MOST_LOOKS;
                }
            }
            Kind::Close { .. } => (self.processes[index].locked, self.processes[index].shared) = (None, None),
            Kind::StatName => {
                let there = self.named();
                self.processes[index].looked = Some(there.is_some() && there == self.processes[index].locked);
            }
            Kind::Change { .. } => {
                let mut bytes = [0; 4096];
                let length = self.file(index, fd).read_at(&mut bytes, 0).unwrap();
                self.check_content(&bytes[..length])?;
            }
            Kind::Mark(ENTER) => {
                self.processes[index].in_section = true;
                let holders: Vec<&str> =
                    self.processes.iter().filter(|process| process.in_section).map(|p| p.name.as_str()).collect();
                if holders.len() > 1 && !self.processes.iter().any(|process| process.rude) {
                    return Err(format!("two holders: {}", holders.join(" and ")));
                }
            }
            Kind::Mark(LEAVE) => self.processes[index].in_section = false,
            Kind::Mark(KILL) => {
                let victim = &mut self.processes[0];
                if victim.end.is_none() {
                    victim.end = Some(victim.traced.die());
                }
                (victim.next, victim.locked, victim.shared, victim.in_section) = (None, None, None, false);
            }
            _ => {}
        }
        Ok(())
    }

    /// One whole PID, of a process of this scenario or what stood there before, or nothing.
    fn check_content(&self, bytes: &[u8]) -> Result<(), String> {
        let content = String::from_utf8_lossy(bytes);
        let number = content.trim_end_matches('\n');
        let known = |number| self.stale == Some(number) || self.processes.iter().any(|p| p.traced.pid == number);
        if number.is_empty() || (content.len() > number.len() && number.parse().is_ok_and(known)) {
            Ok(())
        } else {
            Err(format!("the file reads as {content:?}"))
        }
    }

    /// Looks at what is left once all have ended: the name can be had at once.
    fn check_end(&self) -> Result<(), String> {
        let left = fs::read(self.scenario.file).ok();
        self.check_content(left.as_deref().unwrap_or_default())?;
        if self.scenario.leaves_nothing && left.is_some() {
            return Err("all have ended, and the file is still there".into());
        }
        let acquired = pidflock::PidLock::options().sync(false).acquire(self.scenario.file);
        match acquired.and_then(pidflock::PidLock::release) {
            Ok(()) if !fs::exists(self.scenario.file).unwrap() => Ok(()),
            result => Err(format!("all have ended, and one more start and release end with {result:?}")),
        }
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

/// No order is longer.
const MOST_STEPS: usize = 2000;

/// An order is cut off after so many looks in a row at nothing but shared locks.
const MOST_LOOKS: u32 = 3;

/// Runs the scenario in every order, up to those that are equal. An order in which something is wrong is returned as a
/// table.
pub fn explore(scenario: &Scenario) -> Result<Covered, String> {
    stay_on_one_processor();
    let works: Vec<&dyn Fn() -> i32> = scenario.actors.iter().map(|actor| actor.work).collect();
    let mut forker = Forker::new(CALLS, &works).map_err(|error| error.to_string())?;
    let mut choices: Vec<Choice> = vec![];
    // Where preemptions are bounded: what has been continued, who was last in it, and how many preemptions were in it.
    let mut continued: HashMap<(u64, Option<usize>), u32> = HashMap::new();
    let mut covered = Covered::default();
    loop {
        let mut world = World::new(scenario, &mut forker, false);
        let (mut depth, mut sleeping, mut last, mut preemptions) = (0, BTreeSet::new(), None, 0);
        let redundant = loop {
            let ready = world.ready();
            if ready.is_empty() {
                let wedged = world.processes.iter().any(|process| process.end.is_none());
                let wrong = if wedged { Err("wedged: nobody can go on".into()) } else { world.check_end() };
                if let Err(wrong) = wrong {
                    drop(world);
                    return Err(table(scenario, &mut forker, &choices, &wrong));
                }
                break false;
            }
            if depth == choices.len() {
                if scenario.preemptions.is_some() {
                    let before = continued.entry((world.past.all, last)).or_insert(u32::MAX);
                    if *before <= preemptions {
                        break true;
                    }
                    *before = preemptions;
                }
                let mut choice = Choice { ready, sleeping, tried: BTreeSet::new(), chosen: 0, last, preemptions };
                let Some(chosen) = choice.next(scenario.preemptions) else { break true };
                choice.chosen = chosen;
                choices.push(choice);
            }
            if depth == MOST_STEPS {
                drop(world);
                return Err(table(scenario, &mut forker, &choices, "it goes on for ever"));
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
            if world.cut {
                break true;
            }
        };
        covered.runs += 1;
        covered.windows += world.windows;
        covered.cut += u64::from(world.cut);
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
