//! One run of a scenario: its processes, each stopped before its next step.
//!
//! A sleep is skipped and is no step. Instead, the process waits until another changes something that it has touched
//! since its last sleep: until then it would see the same again. If all processes sleep, all wake. So the clock never
//! runs out for a process while the others had no chance to move.
//!
//! One limit does run out: an acquirer that meets only shared locks gives up after forty attempts and 0.1 seconds, as
//! documented. A run is therefore cut off once a process has met nothing but shared locks four times in a row.

use super::{
    scenario::{ENTER, KILL, LEAVE, Scenario},
    steps::{Kind, Step, Thing, overlap},
    world::{Files, PID_MAX, Task},
};
use crate::harness::trace::{Forker, Stop, Syscall, Traced};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

/// More attempts in a row than this that met only shared locks cut off the run.
const MOST_SHARED: u32 = 3;

pub struct Process {
    pub name: String,
    pub rude: bool,
    pub task: Task,
    traced: Traced,
    pub next: Option<Step>,
    /// It has slept, and no other process has changed what it has seen.
    asleep: bool,
    /// What it has touched since its last sleep.
    seen: BTreeSet<Thing>,
    /// Another process has changed something that it has seen.
    news: bool,
    pub in_section: bool,
    /// If its last step looked at the name: whether that found the file that it has locked.
    pub looked: Option<bool>,
    /// Whether another process held the file when it was last refused the lock.
    pub refused_rightly: bool,
    /// How often in a row it was refused the lock although nobody held the file.
    refused_wrongly: u32,
    /// The processes that held the file when it last asked for a lock.
    pub refused_by: Vec<i32>,
}

impl Process {
    fn wake(&mut self) {
        (self.asleep, self.news) = (false, false);
        self.seen.clear();
    }
}

/// A line of the story.
pub struct Line {
    /// The process, by its place.
    pub place: usize,
    pub what: String,
    /// What the call returned, if it was one.
    pub result: Option<i64>,
}

/// A step that was just made.
pub struct Made {
    /// -errno for an error. Known only for locks, and for all calls if there is a log; otherwise 0.
    pub result: i64,
    stop: Stop,
}

pub struct Run<'a> {
    pub scenario: &'a Scenario<'a>,
    pub processes: Vec<Process>,
    pub files: Files,
    /// The number in the file at the beginning.
    pub stale: Option<i32>,
    /// What happened, if it is to be told. Each process then stops once more after each call, to see what it returned.
    pub log: Option<Vec<Line>>,
    /// See `Covered::windows`.
    pub windows: u64,
    pub cut: bool,
    device: u64,
}

impl<'a> Run<'a> {
    pub fn new(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> Run<'a> {
        loop {
            let run = Run::with_any_pids(scenario, forker, told);
            if run.has_even_pids() {
                return run;
            }
        }
    }

    /// Whether all PIDs of this run, including those of future children, have the same number of digits. Otherwise a
    /// stamp over a longer one needs one more call, and the run is not comparable with the others.
    fn has_even_pids(&self) -> bool {
        let pids: Vec<i32> = self.processes.iter().map(|process| process.task.pid).collect();
        let (least, most) = (pids.iter().min().unwrap(), pids.iter().max().unwrap());
        (*most..most + 50).chain([*least]).all(|pid| pid < *PID_MAX && pid.ilog10() == most.ilog10())
    }

    fn with_any_pids(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> Run<'a> {
        (scenario.before)();
        let files = Files::at(scenario.file);
        let content = files.named_content().and_then(|content| String::from_utf8(content).ok());
        let mut run = Run {
            scenario,
            processes: vec![],
            files,
            stale: content.and_then(|text| text.trim_end().parse().ok()),
            log: told.then(Vec::new),
            windows: 0,
            cut: false,
            device: fs::metadata(scenario.directory).unwrap().dev(),
        };
        for actor in &scenario.actors {
            run.add(actor.name.into(), actor.rude, forker.fork(), None);
        }
        run
    }

    fn add(&mut self, name: String, rude: bool, traced: Traced, locked: Option<u64>) {
        let place = self.processes.len();
        self.processes.push(Process {
            name,
            rude,
            task: Task::new(place, traced.pid, locked, self.device),
            traced,
            next: None,
            asleep: false,
            seen: BTreeSet::new(),
            news: false,
            in_section: false,
            looked: None,
            refused_rightly: false,
            refused_wrongly: 0,
            refused_by: vec![],
        });
        let stop = self.processes[place].traced.go_on_to_a_call();
        self.advance(place, stop);
    }

    /// Lets a process run on from this stop until it is about to make a step, or has ended.
    fn advance(&mut self, place: usize, mut stop: Stop) {
        loop {
            let process = &mut self.processes[place];
            match stop {
                Stop::Entry(call) if is_sleep(process, call) => {
                    process.traced.replace(0);
                    if process.news {
                        process.wake();
                    } else {
                        process.asleep = true;
                    }
                    if let Some(log) = &mut self.log {
                        log.push(Line { place, what: "sleeps".into(), result: None });
                    }
                }
                Stop::Entry(call) => {
                    process.next = Step::of(call, &mut process.task, self.scenario);
                    if process.next.is_some() {
                        return;
                    }
                }
                Stop::Forked(pid) => {
                    let name = format!("{}'s child", process.name);
                    let (rude, locked) = (process.rude, process.task.locked);
                    self.add(name, rude, Traced::forked(pid), locked);
                }
                Stop::Ended(end) => {
                    process.next = None;
                    process.task.end = Some(end);
                    return;
                }
                Stop::Exit(_) | Stop::Signal(_) | Stop::Executed => {}
            }
            stop = self.processes[place].traced.go_on_to_a_call();
        }
    }

    /// The processes that can make a step now. Empty if none can ever.
    pub fn ready(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.processes.len()).filter(|place| self.can_step(*place)).collect();
        if all.iter().all(|place| self.processes[*place].asleep) {
            self.processes.iter_mut().for_each(Process::wake);
        }
        all.retain(|place| !self.processes[*place].asleep);
        all
    }

    fn can_step(&mut self, place: usize) -> bool {
        let process = &mut self.processes[place];
        let Some(step) = &process.next else { return false };
        step.awaited_lock().is_none_or(|(fd, operation)| self.files.could_lock(&mut process.task, fd, operation))
    }

    /// The next step of a process, which has to be made now.
    pub fn take_step(&mut self, place: usize) -> Step {
        self.processes[place].next.take().unwrap()
    }

    /// Lets a process make this step. Only the kernel's state changes, not the record of it.
    pub fn make(&mut self, place: usize, step: &Step) -> Made {
        let traced = &mut self.processes[place].traced;
        let stop = match step.kind {
            Kind::Lock { .. } => traced.make(),
            _ if self.log.is_some() => traced.make(),
            _ => traced.go_on_to_a_call(),
        };
        let result = if let Stop::Exit(value) = stop { value } else { 0 };
        if let Some(log) = &mut self.log {
            let returns = !matches!(step.kind, Kind::End | Kind::Mark(_));
            log.push(Line { place, what: step.what.clone(), result: returns.then_some(result) });
        }
        Made { result, stop }
    }

    /// Records what a step has changed.
    pub fn record(&mut self, place: usize, step: &Step, made: &Made) {
        self.processes[place].looked = None;
        match step.kind {
            Kind::Lock { inode, operation } => self.record_lock(place, step.call.int(0), inode, operation, made.result),
            Kind::Close { .. } => self.processes[place].task.lose_locks(),
            Kind::StatName => {
                let named = self.files.named();
                let process = &mut self.processes[place];
                process.looked = Some(named.is_some() && named == process.task.locked);
            }
            Kind::Mark(ENTER) => self.processes[place].in_section = true,
            Kind::Mark(LEAVE) => self.processes[place].in_section = false,
            Kind::Mark(KILL) => {
                let victim = &mut self.processes[0];
                if victim.task.lives() {
                    victim.task.end = Some(victim.traced.die());
                }
                victim.task.lose_locks();
                (victim.next, victim.in_section) = (None, false);
            }
            _ => {}
        }
    }

    fn record_lock(&mut self, place: usize, fd: i32, inode: u64, operation: i32, result: i64) {
        let holders = self.processes.iter().filter(|other| other.task.locked == Some(inode));
        let holders = holders.map(|other| other.task.pid).collect();
        let process = &mut self.processes[place];
        process.refused_by = holders;
        let exclusive = operation & libc::LOCK_EX != 0;
        if result == 0 {
            process.task.locked = exclusive.then_some(inode);
            process.task.shared = (operation & libc::LOCK_SH != 0).then_some(inode);
        } else if exclusive {
            // If a shared lock can be had, the process met only shared locks.
            process.refused_rightly = !self.files.could_lock(&mut process.task, fd, libc::LOCK_SH);
            process.refused_wrongly = if process.refused_rightly { 0 } else { process.refused_wrongly + 1 };
            self.cut |= process.refused_wrongly > MOST_SHARED;
        }
    }

    /// Wakes the processes that have seen what this step changed. The process that made it runs on to its next step.
    pub fn go_on(&mut self, place: usize, step: &Step, made: Made) {
        let changed = |seen: &Thing| step.touched.iter().any(|(thing, changed)| *changed && overlap(*thing, *seen));
        for (other, process) in self.processes.iter_mut().enumerate() {
            if other == place {
                process.seen.extend(step.touched.iter().map(|(thing, _)| *thing));
            } else if process.seen.iter().any(changed) {
                if process.asleep { process.wake() } else { process.news = true }
            }
        }
        self.advance(place, made.stop);
    }
}

fn is_sleep(process: &mut Process, call: Syscall) -> bool {
    match call.number {
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => true,
        libc::SYS_ppoll if process.task.nanoseconds(call.arguments[2]) > 0 => {
            process.seen.insert(Thing::Life); // it waits for a process to end
            true
        }
        _ => false,
    }
}
