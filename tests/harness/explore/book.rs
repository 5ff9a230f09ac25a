//! What is noted of each process for the rules, and what they may ask: of a run on the real kernel, or of one in the
//! model. So the same rules judge both.

use super::{
    scenario::{Actor, ENTER, KILL, LEAVE, Scenario},
    steps::{Kind, Step, Thing, Touched, overlap},
};
use crate::support::End;
use std::rc::Rc;

/// More attempts in a row than this that met only shared locks cut off the run.
const MOST_SHARED: u32 = 3;

/// What is noted of one process.
#[derive(Clone)]
pub struct Noted {
    pub name: Rc<str>,
    pub rude: bool,
    /// See `Actor::observer`.
    pub observer: bool,
    /// It is an observer that has looked into /proc: from here on it only reads.
    pub only_reads: bool,
    /// A call of it has failed on purpose.
    pub struck: bool,
    /// Its place in the scenario. Children come after all actors.
    pub place: usize,
    pub pid: i32,
    pub end: Option<End>,
    /// The inode on which it has the exclusive lock.
    pub locked: Option<u64>,
    /// The inode on which it has a shared lock.
    pub shared: Option<u64>,
    pub in_section: bool,
    /// If its last step looked at the name: whether that found the file that it has locked.
    pub looked: Option<bool>,
    /// Whether another process held the file when it was last refused a lock of either kind.
    pub refused_rightly: bool,
    /// How often in a row it was refused the lock although nobody held the file.
    pub refused_wrongly: u32,
    /// The processes that held the file when it last asked for a lock.
    pub refused_by: Vec<i32>,
}

impl Noted {
    pub fn of(actor: &Actor, place: usize, pid: i32) -> Noted {
        Noted {
            name: actor.name.into(),
            rude: actor.rude,
            observer: actor.observer,
            only_reads: false,
            struck: false,
            place,
            pid,
            end: None,
            locked: None,
            shared: None,
            in_section: false,
            looked: None,
            refused_rightly: false,
            refused_wrongly: 0,
            refused_by: vec![],
        }
    }

    /// A child that this process has just forked.
    pub fn forked(&self, place: usize, pid: i32) -> Noted {
        Noted {
            name: format!("{}'s child", self.name).into(),
            place,
            pid,
            locked: self.locked,
            shared: self.shared,
            in_section: false,
            looked: None,
            refused_rightly: false,
            refused_wrongly: 0,
            refused_by: vec![],
            ..self.clone()
        }
    }

    pub fn lives(&self) -> bool {
        self.end.is_none()
    }

    /// The inode on which it has a lock of either kind.
    pub fn has_lock_on(&self) -> Option<u64> {
        self.locked.or(self.shared)
    }

    /// It has no lock any more.
    fn lose_locks(&mut self) {
        (self.locked, self.shared) = (None, None);
    }
}

#[derive(Clone, Default)]
pub struct Book {
    pub noted: Vec<Noted>,
    /// See `Covered::windows`.
    pub windows: u64,
    /// See `Covered::cut`.
    pub cut: bool,
}

/// A run, as the rules see it.
pub trait View {
    fn scenario(&self) -> &Scenario<'_>;
    fn book(&self) -> &Book;
    fn book_mut(&mut self) -> &mut Book;
    /// The number in the file at the beginning.
    fn stale(&self) -> Option<i32>;
    /// The inode that the name leads to, if there is one.
    fn named(&self) -> Option<u64>;
    fn named_content(&self) -> Option<Vec<u8>>;
    /// The content of the file behind a descriptor of this process.
    fn content(&mut self, place: usize, fd: i32) -> Vec<u8>;
    /// Whether a new open file would get a shared lock on the file behind a descriptor of this process.
    fn could_share(&mut self, place: usize, fd: i32) -> bool;
    /// All have ended: one more acquires the name and releases it. The error is what it met.
    fn one_more(&mut self) -> Result<(), String>;

    /// Notes what a step has changed. `result` is -errno for an error; of other calls than flock it is not looked at.
    fn note(&mut self, place: usize, step: &Step, result: i64) {
        self.book_mut().noted[place].looked = None;
        match step.kind {
            Kind::Lock { inode, operation } => self.note_lock(place, step.call.int(0), inode, operation, result),
            Kind::Close { .. } => self.book_mut().noted[place].lose_locks(),
            Kind::StatName => {
                let named = self.named();
                let noted = &mut self.book_mut().noted[place];
                noted.looked = Some(named.is_some() && named == noted.locked);
            }
            Kind::Look => {
                let noted = &mut self.book_mut().noted[place];
                noted.only_reads = noted.observer;
            }
            Kind::Mark(ENTER) => self.book_mut().noted[place].in_section = true,
            Kind::Mark(LEAVE) => self.book_mut().noted[place].in_section = false,
            Kind::Mark(KILL) => {
                let victim = &mut self.book_mut().noted[0];
                victim.lose_locks();
                victim.in_section = false;
                victim.end = victim.end.or(Some(End::Signal(libc::SIGKILL)));
            }
            _ => {}
        }
    }

    fn note_lock(&mut self, place: usize, fd: i32, inode: u64, operation: i32, result: i64) {
        let exclusive = operation & libc::LOCK_EX != 0;
        // If a shared lock can be had, the process met only shared locks.
        let rightly = result != 0 && exclusive && !self.could_share(place, fd);
        let book = self.book_mut();
        let holders = book.noted.iter().filter(|other| other.locked == Some(inode));
        let holders = holders.map(|other| other.pid).collect();
        let noted = &mut book.noted[place];
        noted.refused_by = holders;
        if result == 0 {
            noted.locked = exclusive.then_some(inode);
            noted.shared = (operation & libc::LOCK_SH != 0).then_some(inode);
        } else if exclusive {
            noted.refused_rightly = rightly;
            noted.refused_wrongly = if rightly { 0 } else { noted.refused_wrongly + 1 };
            book.cut |= noted.refused_wrongly > MOST_SHARED;
        } else if operation & libc::LOCK_SH != 0 {
            // A shared lock is refused only because of an exclusive one. Its holder may have come since the process
            // last asked for that itself.
            noted.refused_rightly = true;
        }
    }
}

/// Whether a process has slept, and what wakes it: see `run`.
#[derive(Clone, Default)]
pub struct Rest {
    /// It has slept, and no other process has changed what it has seen.
    pub asleep: bool,
    /// Another process has changed something that it has seen.
    pub news: bool,
    /// What it has touched since its last sleep.
    seen: Vec<Thing>,
}

impl Rest {
    pub fn wake(&mut self) {
        (self.asleep, self.news) = (false, false);
        self.seen.clear();
    }

    pub fn sleep(&mut self) {
        if self.news { self.wake() } else { self.asleep = true }
    }

    /// The process itself has touched this.
    pub fn touch(&mut self, touched: &Touched) {
        self.seen.extend(touched.iter().map(|(thing, _)| *thing));
    }

    /// It waits for a process to end.
    pub fn awaits_a_death(&mut self) {
        self.seen.push(Thing::Life);
    }

    /// Another process has touched this.
    pub fn notice(&mut self, touched: &Touched) {
        let changed = |seen: &Thing| touched.iter().any(|(thing, changed)| *changed && overlap(*thing, *seen));
        if self.seen.iter().any(changed) {
            if self.asleep { self.wake() } else { self.news = true }
        }
    }
}
