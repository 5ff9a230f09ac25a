//! What the kernel has told a process, and what the process did then.
//!
//! A process is its code, and what the kernel has told it. The code is the same in every run, and asks nothing but the
//! kernel: it has no random numbers and no threads, sleeps take no time (see `run`), and no deadline is reached. So its
//! *history*, the answers that it got so far, decides its next call. Each history is run once on the real kernel, and
//! what the process did is learned. Every later run that repeats it must do the same, or the search fails.
//!
//! Two kinds of numbers differ from run to run, and mean nothing but "the same" and "another". In a history, a process
//! or an inode is replaced by its rank among those that this process has met. The code compares such numbers, asks the
//! kernel about them, and writes its own PID. It does nothing else with them. All PIDs of a search have the same number
//! of digits. Of fstatat of the name the code looks at the inode alone.
//!
//! Processes that do the same work (`Scenario::alike`) share their histories.
//!
//! A process *forgets* (`Scenario::forgets`) at three points: when it sleeps, when it marks that it holds or
//! releases the name, and when it has nothing open and begins to open the file. What it knows from then on is a [`Memory`]. Two
//! histories with the same memory and the same next call are one. The code says why: each look of `contention` begins
//! with a call that asks again, and only `Backoff` goes from one to the next. `looks` and `pauses` follow from
//! the number of sleeps. `turns` decides only at its hundredth, which a few processes never reach.
//!
//! That is an argument about the code, so it is tested as well. If a process remembered more, two runs with the same
//! memory would differ, and `learn` would say so. A test compares a search with and without: the same ends, and as many
//! orders.

use super::{
    book::View,
    history::{Answer, Call, Event},
    run::Run,
};
use crate::{harness::trace::Syscall, support::End};
use std::collections::HashMap;

/// What a process remembers that forgets, see above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    kind: usize,
    sleeps: u32,
    /// How often it has opened the directory.
    rounds: u32,
    /// Its marks, and its forks as -1.
    marks: Vec<i32>,
    /// What it has open, in the order in which it was opened, and how: whether it has created a file, for example.
    open: Vec<(i32, i32)>,
    /// Whether it has an exclusive lock, and a shared one.
    locks: (bool, bool),
}

/// A history: what the process did after the last answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deed {
    /// The descriptor that the last call has returned.
    pub fd: Option<i32>,
    /// From here on it remembers only its memory.
    pub forgets: bool,
    pub events: Vec<Event>,
    /// Its next step is a look into /proc, up to which it is followed.
    pub looks: bool,
    /// Its next step. None: it has ended, or looks.
    pub call: Option<Call>,
    pub end: Option<End>,
}

/// The point at which a history is learned.
pub enum After {
    Nothing {
        kind: usize,
    },
    /// Of a child: what its parent remembers, and the child's history, if that is known.
    Fork {
        parent: Memory,
        root: Option<usize>,
    },
    /// The answer to the last step of this history, and the descriptor that it returned.
    Answer {
        history: usize,
        answer: Answer,
        fd: Option<i32>,
    },
}

/// All histories that were met, as trees.
#[derive(Default)]
pub struct Histories {
    pub deeds: Vec<Deed>,
    /// What each of them remembers.
    memories: Vec<Memory>,
    /// Those at whose end a process forgets.
    forgotten: HashMap<(Memory, Deed), usize>,
    next: HashMap<(usize, Answer), usize>,
    /// The beginnings: of each kind of actor.
    pub roots: HashMap<usize, usize>,
}

impl Histories {
    pub fn after(&self, history: usize, answer: &Answer) -> Option<usize> {
        self.next.get(&(history, answer.clone())).copied()
    }

    /// Learns what a process of a real run did, or makes sure that it did the same as before. Returns its history.
    pub fn learn(&mut self, run: &mut Run, place: usize, after: After) -> Result<usize, String> {
        let known = match &after {
            After::Nothing { kind } => self.roots.get(kind).copied(),
            After::Fork { root, .. } => *root,
            After::Answer { history, answer, .. } => self.after(*history, answer),
        };
        let mut memory = self.memory_before(&after);
        let (fd, marked) = match &after {
            After::Answer { history, fd, .. } => (*fd, self.call(*history).number == libc::SYS_prctl),
            _ => (None, false),
        };
        let events = self.learn_events(run, place, known, &mut memory)?;
        let noted = &run.book().noted[place];
        memory.locks = (noted.locked.is_some(), noted.shared.is_some());

        let slept = events.iter().any(|event| matches!(event, Event::Slept { .. }));
        let begins = matches!(after, After::Answer { .. }) && memory.open.is_empty() && run.will_create(place);
        let forgets = run.scenario.forgets && (slept || marked || begins);
        if forgets {
            run.forget(place, &memory.open);
        }
        let looks = run.will_look(place);
        if looks && !run.book().noted[place].observer {
            return Err("the model has no /proc".into());
        }
        let call = if looks { None } else { run.next_call(place) };
        let deed = Deed { fd, forgets, events, looks, call, end: run.book().noted[place].end };

        let remembered = (memory.clone(), deed.clone());
        let known = known.or_else(|| self.forgotten.get(&remembered).copied());
        if let Some(known) = known.filter(|known| self.deeds[*known] != deed) {
            return Err(format!("after the same answers a process did {:?}, and then {deed:?}", self.deeds[known]));
        }
        let history = known.unwrap_or_else(|| {
            self.deeds.push(deed);
            self.memories.push(memory);
            self.deeds.len() - 1
        });
        if forgets {
            self.forgotten.insert(remembered, history);
        }
        match after {
            After::Nothing { kind } => drop(self.roots.insert(kind, history)),
            After::Fork { .. } => {}
            After::Answer { history: before, answer, .. } => drop(self.next.insert((before, answer), history)),
        }
        Ok(history)
    }

    fn call(&self, history: usize) -> Syscall {
        self.deeds[history].call.as_ref().unwrap().syscall
    }

    /// What a process remembers once the last call of this history has returned.
    fn memory_before(&self, after: &After) -> Memory {
        let (history, fd) = match after {
            After::Nothing { kind } => return Memory { kind: *kind, ..Memory::default() },
            After::Fork { parent, .. } => return parent.clone(),
            After::Answer { history, fd, .. } => (*history, *fd),
        };
        let (mut memory, call) = (self.memories[history].clone(), self.call(history));
        if call.number == libc::SYS_prctl {
            memory.marks.push(call.int(1));
            memory.sleeps = 0; // its next operation counts from 0
        }
        if call.number == libc::SYS_close {
            memory.open.retain(|(open, _)| *open != call.int(0));
        }
        memory.open.extend(fd.map(|fd| (fd, call.int(2))));
        memory
    }

    /// What a process did since its last step. Its children are learned before it.
    fn learn_events(
        &mut self,
        run: &mut Run,
        place: usize,
        known: Option<usize>,
        memory: &mut Memory,
    ) -> Result<Vec<Event>, String> {
        let before = known.map_or(vec![], |known| self.deeds[known].events.clone());
        let mut events = std::mem::take(&mut run.processes[place].events);
        for (index, event) in events.iter_mut().enumerate() {
            match event {
                Event::Closed(fd) => memory.open.retain(|(open, _)| open != fd),
                Event::Slept { .. } => memory.sleeps += 1,
                Event::Begun => (memory.rounds, memory.sleeps) = (memory.rounds + 1, 0),
                Event::Forked(child) => {
                    memory.marks.push(-1);
                    let root = match before.get(index) {
                        Some(Event::Forked(root)) => Some(*root),
                        _ => None,
                    };
                    *child = self.learn(run, *child, After::Fork { parent: memory.clone(), root })?;
                }
            }
        }
        Ok(events)
    }
}
