//! What a step is, what it reads and changes, which steps commute, and why that is sound.
//!
//! A *step* is one system call that touches the lock file, its directory, a lock or a process. Every other call
//! concerns its process alone and runs together with the step before it: getpid, the clock, opening the directory,
//! fsync on tmpfs, closing a file that the process has not locked.
//!
//! | call | reads | changes |
//! |---|---|---|
//! | open of the file | the name | its descriptors |
//! | open that creates | | the name, its descriptors; with O_TRUNC, all content |
//! | unlinkat | | the name |
//! | fstatat of the name | the name | |
//! | flock | | the lock of that inode |
//! | close of a locked file | | the lock of that inode, its descriptors |
//! | fstat | the content of that inode, the name (for the number of links) | |
//! | pread | the content of that inode | |
//! | pwrite, ftruncate | | the content of that inode |
//! | pidfd_open, ppoll, kill with signal 0 | which processes live | |
//! | any look into /proc | which processes live, all locks, all descriptors | |
//! | pidfd_send_signal | the name, all locks | which processes live |
//! | kill with another signal | | which processes live, all locks, all descriptors |
//! | exit | | which processes live, its descriptors, its lock |
//! | death of the first process | | which processes live, all locks, all descriptors, the critical section |
//! | entering and leaving the critical section | | the critical section |
//!
//! Each step also reads whether its own process lives. So a death commutes with no step of the process that dies.
//!
//! Two steps *commute* unless they touch the same thing and one of them changes it. Orders that differ only in adjacent
//! steps that commute are equal: running one of them is enough.
//!
//! Why that is sound: what a call returns and does depends only on what it reads and changes. Take two calls that share
//! nothing, or only read what they share. In either order, they return the same and leave the same state. Neither of
//! them enables or prevents the other. (A flock that waits counts as ready only once it would get the lock. So what it
//! waits for is what it touches.)

use super::{
    scenario::{CURRENT, ENTER, KILL, LEAVE, Scenario},
    world::{Asked, ELSEWHERE},
};
use crate::harness::trace::{MARK, Syscall};

/// The calls that can be steps or sleeps. At all others a process does not stop.
pub const CALLS: &[i64] = &[
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

/// A part of the state that a step reads or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Name,
    Lock(u64),
    AnyLock,
    Content(u64),
    AnyContent,
    /// The descriptors of a process, by its place in the scenario.
    Descriptors(usize),
    AnyDescriptors,
    /// Which processes live.
    Life,
    /// That this process lives, on which all its steps depend.
    Alive(usize),
    /// The critical section: which processes believe that they hold the name.
    Section,
}

/// What a step touches, and whether it changes it.
pub type Touched = Vec<(Thing, bool)>;

pub fn commute(one: &Touched, other: &Touched) -> bool {
    one.iter().all(|(thing, changed)| other.iter().all(|(other, too)| !overlap(*thing, *other) || (!changed && !too)))
}

/// Whether the two are the same thing, or one includes the other.
pub fn overlap(one: Thing, other: Thing) -> bool {
    use Thing::*;
    let within = |any, one| {
        matches!((any, one), (AnyLock, Lock(_)) | (AnyContent, Content(_)) | (AnyDescriptors, Descriptors(_)))
    };
    one == other || within(one, other) || within(other, one)
}

#[derive(Clone, Debug)]
pub struct Step {
    pub call: Syscall,
    pub touched: Touched,
    pub kind: Kind,
}

/// What the rules, the book and the model need to know about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Lock {
        inode: u64,
        operation: i32,
    },
    Close {
        inode: u64,
    },
    StatName,
    Truncate,
    Change {
        inode: u64,
    },
    Unlink,
    Signal {
        target: i32,
    },
    Mark(i32),
    End,
    Open,
    Stat {
        inode: u64,
    },
    Read {
        inode: u64,
    },
    /// Asks whether this process lives.
    AskLife {
        target: i32,
    },
    /// A look into /proc.
    Look,
}

impl Step {
    /// The step that this call is, if it is one. The process has not made the call yet; it has a lock on this inode.
    pub fn of(call: Syscall, task: &mut dyn Asked, place: usize, locked: Option<u64>) -> Option<Step> {
        use Thing::*;
        let fd = call.int(0);
        let in_proc = || (Kind::Look, vec![(Life, false), (AnyLock, false), (AnyDescriptors, false)]);
        let (kind, mut touched) = match call.number {
            libc::SYS_openat if task.bytes(call.arguments[1], 6) == b"/proc/" => in_proc(),
            libc::SYS_openat if fd == libc::AT_FDCWD => return None,
            libc::SYS_openat if task.inode(fd) == ELSEWHERE => in_proc(),
            libc::SYS_openat => {
                let (creates, truncates) = (call.int(2) & libc::O_CREAT != 0, call.int(2) & libc::O_TRUNC != 0);
                let mut touched = vec![(Name, creates), (Descriptors(place), true)];
                touched.extend(truncates.then_some((AnyContent, true)));
                (if truncates { Kind::Truncate } else { Kind::Open }, touched)
            }
            libc::SYS_flock => {
                let (inode, operation) = (task.inode(fd), call.int(1));
                (Kind::Lock { inode, operation }, vec![(Lock(inode), true)])
            }
            libc::SYS_newfstatat if call.int(3) & libc::AT_EMPTY_PATH == 0 => match task.inode(fd) {
                ELSEWHERE => in_proc(),
                _ => (Kind::StatName, vec![(Name, false)]),
            },
            libc::SYS_newfstatat | libc::SYS_fstat => match task.inode(fd) {
                ELSEWHERE => in_proc(),
                inode => (Kind::Stat { inode }, vec![(Content(inode), false), (Name, false)]),
            },
            libc::SYS_pread64 => match task.inode(fd) {
                // How often it goes on depends on what else the machine does.
                ELSEWHERE if call.arguments[3] > 0 => return None,
                ELSEWHERE => in_proc(),
                inode => (Kind::Read { inode }, vec![(Content(inode), false)]),
            },
            libc::SYS_pwrite64 | libc::SYS_ftruncate => {
                let inode = task.inode(fd);
                (Kind::Change { inode }, vec![(Content(inode), true)])
            }
            libc::SYS_unlinkat => (Kind::Unlink, vec![(Name, true)]),
            libc::SYS_close => {
                let closed = task.inode_to_be_closed(fd);
                let inode = locked.filter(|inode| *inode == closed)?;
                (Kind::Close { inode }, vec![(Lock(inode), true), (Descriptors(place), true)])
            }
            libc::SYS_ppoll => {
                let target = task.target(task.word(call.arguments[0]));
                (Kind::AskLife { target }, vec![(Life, false)])
            }
            libc::SYS_pidfd_open => (Kind::AskLife { target: fd }, vec![(Life, false)]),
            libc::SYS_getdents64 => in_proc(),
            libc::SYS_kill if call.int(1) == 0 => (Kind::AskLife { target: fd }, vec![(Life, false)]),
            libc::SYS_kill => {
                (Kind::Signal { target: fd }, vec![(Life, true), (AnyLock, true), (AnyDescriptors, true)])
            }
            libc::SYS_pidfd_send_signal => {
                let target = task.target(fd);
                (Kind::Signal { target }, vec![(Life, true), (AnyLock, false), (Name, false)])
            }
            libc::SYS_prctl if call.int(0) == MARK => (Kind::Mark(call.int(1)), touched_at_mark(call.int(1))),
            libc::SYS_exit_group => {
                let mut touched = vec![(Life, true), (Descriptors(place), true)];
                touched.extend(locked.map(|inode| (Lock(inode), true)));
                (Kind::End, touched)
            }
            _ => return None,
        };
        touched.push((Alive(place), false));
        Some(Step { call, touched, kind })
    }

    /// The call in words, for the story.
    pub fn in_words(&self, scenario: &Scenario) -> String {
        let call = self.call;
        match self.kind {
            Kind::Open | Kind::Truncate if call.int(2) & libc::O_CREAT != 0 => "openat, creating".into(),
            Kind::Open | Kind::Truncate => "openat".into(),
            Kind::Lock { inode, operation } => {
                let what = match operation & !libc::LOCK_NB {
                    libc::LOCK_EX => "exclusive",
                    libc::LOCK_SH => "shared",
                    _ => "unlock",
                };
                let wait = if waits(operation) { ", waiting" } else { "" };
                format!("flock {what}{wait}, inode {inode}")
            }
            Kind::StatName => "fstatat of the name".into(),
            Kind::Stat { inode } => format!("fstat, inode {inode}"),
            Kind::Read { inode } => format!("pread, inode {inode}"),
            Kind::Change { inode } if call.number == libc::SYS_pwrite64 => {
                format!("pwrite of {}, inode {inode}", call.arguments[2])
            }
            Kind::Change { inode } => format!("ftruncate to {}, inode {inode}", call.arguments[1]),
            Kind::Unlink => "unlinkat".into(),
            Kind::Close { inode } => format!("close, inode {inode}"),
            Kind::AskLife { target } => match call.number {
                libc::SYS_ppoll => "ppoll".into(),
                libc::SYS_pidfd_open => format!("pidfd_open of {target}"),
                _ => format!("kill 0 to {target}"),
            },
            Kind::Signal { target } => format!("signal {} to {target}", call.int(1)),
            Kind::Look => match call.number {
                libc::SYS_openat => "openat in /proc".into(),
                libc::SYS_pread64 => "pread in /proc".into(),
                libc::SYS_getdents64 => "getdents64 in /proc".into(),
                _ => "fstat in /proc".into(),
            },
            Kind::Mark(ENTER) => "-- holds the name".into(),
            Kind::Mark(LEAVE) => "-- lets go".into(),
            Kind::Mark(KILL) => format!("-- {} is killed", scenario.actors[0].name),
            Kind::Mark(CURRENT) => "-- it is current".into(),
            Kind::Mark(_) => "-- it is not current".into(),
            Kind::End => format!("exit {}", call.int(0)),
        }
    }

    /// The lock for which the call waits, if it waits for one: its descriptor and operation.
    pub fn awaited_lock(&self) -> Option<(i32, i32)> {
        match self.kind {
            Kind::Lock { operation, .. } if waits(operation) => Some((self.call.int(0), operation)),
            _ => None,
        }
    }
}

fn waits(operation: i32) -> bool {
    operation & (libc::LOCK_NB | libc::LOCK_UN) == 0
}

fn touched_at_mark(code: i32) -> Touched {
    use Thing::*;
    match code {
        ENTER | LEAVE => vec![(Section, true)],
        KILL => vec![(Life, true), (AnyLock, true), (AnyDescriptors, true), (Section, true), (Alive(0), true)],
        _ => vec![],
    }
}
