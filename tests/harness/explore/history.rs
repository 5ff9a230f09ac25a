//! The answers of the kernel to a process, and its calls, as they are in every run.

use super::{
    steps::{Kind, Step},
    world::{Asked, Task},
};
use crate::harness::trace::Syscall;

/// What a call has told the process that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    Failed(i32),
    Done,
    Number(i64),
    File(usize),
    Stat { file: usize, links: u64, length: u64 },
    Content(Text),
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    /// The PID of a process, and so many newlines.
    Claim(usize, usize),
    Other(Vec<u8>),
}

/// The files and processes that a process has met, by their inodes and places.
#[derive(Clone)]
pub struct Met {
    pub files: Vec<u64>,
    pub processes: Vec<usize>,
}

impl Met {
    pub fn by(place: usize) -> Met {
        Met { files: vec![], processes: vec![place] }
    }

    /// It has forked this child, which has met what it has met.
    pub fn forked(&mut self, child: usize) -> Met {
        self.processes.push(child);
        self.clone()
    }

    /// It has slept, and remembers only these files, and itself.
    pub fn forget(&mut self, me: usize, files: Vec<u64>) {
        (self.files, self.processes) = (files, vec![me]);
    }

    pub fn file(&mut self, inode: u64) -> usize {
        rank(&mut self.files, inode)
    }

    pub fn text(&mut self, bytes: Vec<u8>, pids: &[i32]) -> Text {
        match claim(&bytes, pids) {
            Some((place, newlines)) => Text::Claim(rank(&mut self.processes, place), newlines),
            None => Text::Other(bytes),
        }
    }
}

fn rank<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    all.iter().position(|known| *known == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

/// If this is the PID of one of the processes and newlines: its place, and how many newlines.
pub fn claim(bytes: &[u8], pids: &[i32]) -> Option<(usize, usize)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number: i32 = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let place = pids.iter().position(|pid| *pid == number)?;
    bytes[digits..].iter().all(|byte| *byte == b'\n').then_some((place, bytes.len() - digits))
}

/// What a process does between two steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It has closed a descriptor of no lock.
    Closed(i32),
    Slept {
        awaits_a_death: bool,
    },
    /// It has opened the directory, as each operation does at its beginning.
    Begun,
    /// It has forked the process in this place; once learned: the process with this history.
    Forked(usize),
}

/// A call that is a step, as it is made in every run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Without pointers, and with 0 instead of a PID that is in `target`.
    pub syscall: Syscall,
    /// What it writes to a file.
    pub text: Option<Text>,
    /// The process that it asks about, by its rank.
    pub target: Option<usize>,
    /// What a pointer leads to, as far as that decides which step it is.
    pub memory: Vec<u8>,
}

impl Call {
    /// The call that a process is about to make.
    pub fn of(step: &Step, task: &Task, met: &mut Met, pids: &[i32]) -> Call {
        let mut syscall = step.call;
        let [_, one, two, ..] = syscall.arguments;
        let mut call = Call { syscall, text: None, target: None, memory: vec![] };
        let pointers: &[usize] = match syscall.number {
            libc::SYS_openat => {
                call.memory = task.bytes(one, 6);
                &[1]
            }
            libc::SYS_newfstatat => &[1, 2],
            libc::SYS_fstat | libc::SYS_pread64 => &[1],
            libc::SYS_pwrite64 => {
                call.text = Some(met.text(task.bytes(one, two as usize), pids));
                &[1]
            }
            libc::SYS_unlinkat => &[1],
            libc::SYS_ppoll => {
                call.memory = task.bytes(syscall.arguments[0], 4);
                &[0, 2, 3]
            }
            _ => &[],
        };
        pointers.iter().for_each(|index| syscall.arguments[*index] = 0);
        if matches!(syscall.number, libc::SYS_pidfd_open | libc::SYS_kill) {
            if let Some(place) = pids.iter().position(|pid| *pid == syscall.int(0)) {
                let known = met.processes.iter().position(|known| *known == place);
                call.target = Some(known.expect("a process that asks about another has met it since it last forgot"));
                syscall.arguments[0] = 0;
            }
        }
        let used = match syscall.number {
            libc::SYS_flock | libc::SYS_ftruncate | libc::SYS_pidfd_open | libc::SYS_kill | libc::SYS_prctl => 2,
            libc::SYS_close | libc::SYS_fstat | libc::SYS_exit_group => 1,
            libc::SYS_unlinkat => 3,
            libc::SYS_ppoll => 2,
            libc::SYS_pidfd_send_signal => 2,
            _ => 4,
        };
        syscall.arguments[used..].fill(0); // whatever the registers had
        call.syscall = syscall;
        call
    }
}

impl Answer {
    /// What the kernel has told the process that has just made this step, and has not run on.
    pub fn of(step: &Step, result: i64, task: &mut Task, met: &mut Met, pids: &[i32]) -> Answer {
        let arguments = &step.call.arguments;
        match step.kind {
            Kind::Mark(_) | Kind::End => Answer::Done,
            _ if result < 0 => Answer::Failed(-result as i32),
            Kind::Open | Kind::Truncate => Answer::File(met.file(task.inode(result as i32))),
            Kind::Stat { .. } => {
                let stat = stat(task, arguments[if step.call.number == libc::SYS_fstat { 1 } else { 2 }]);
                Answer::Stat { file: met.file(stat.st_ino), links: stat.st_nlink, length: stat.st_size as u64 }
            }
            Kind::StatName => Answer::File(met.file(stat(task, arguments[2]).st_ino)),
            Kind::Read { .. } => Answer::Content(met.text(task.bytes(arguments[1], result as usize), pids)),
            Kind::Change { .. } if step.call.number == libc::SYS_pwrite64 && result as u64 != arguments[2] => {
                Answer::Number(result)
            }
            Kind::AskLife { .. } if step.call.number == libc::SYS_ppoll => Answer::Number(result),
            _ => Answer::Done,
        }
    }
}

fn stat(task: &Task, address: u64) -> libc::stat {
    let bytes = task.bytes(address, size_of::<libc::stat>());
    assert_eq!(bytes.len(), size_of::<libc::stat>());
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}
