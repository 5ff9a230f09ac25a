//! One run of a scenario: its processes, each stopped before its next step.
//!
//! A sleep is skipped and is no step. Instead, the process waits until another changes something that it has touched
//! since its last sleep: until then it would see the same again. If all processes sleep, all wake. So the clock never
//! runs out for a process while the others had no chance to move.
//!
//! One limit does run out: an acquirer that meets only shared locks gives up after forty attempts and 0.1 seconds, as
//! documented. A run is therefore cut off once a process has met nothing but shared locks four times in a row.

use super::{
    book::{Book, Noted, Rest, View},
    history::{Answer, Call, Event, Met, claim},
    scenario::{KILL, Scenario},
    steps::{Kind, Step},
    world::{Asked, Files, PID_MAX, Task},
};
use crate::harness::trace::{Forker, Stop, Syscall, Traced};
use pidflock::PidLock;
use std::{fs, os::unix::fs::MetadataExt};

/// No order is longer.
pub const MOST_STEPS: usize = 2000;

pub struct Process {
    task: Task,
    traced: Traced,
    pub next: Option<Step>,
    rest: Rest,
    /// What it has met, for its history.
    met: Met,
    /// How many calls it has made of the number that is to fail.
    calls: u32,
    /// Its next step fails with this.
    strike: Option<i32>,
    /// What it did since its last step.
    pub events: Vec<Event>,
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
    /// What the call has told the process. Known only if there is a log.
    pub answer: Option<Answer>,
    stop: Stop,
}

pub struct Run<'a> {
    pub scenario: &'a Scenario<'a>,
    pub processes: Vec<Process>,
    book: Book,
    files: Files,
    /// Of the file.
    pub content_at_the_beginning: Option<Vec<u8>>,
    /// What happened, if it is to be told. Each process then stops once more after each call, to see what it returned.
    pub log: Option<Vec<Line>>,
    device: u64,
}

impl<'a> Run<'a> {
    pub fn new(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> Run<'a> {
        Run::with_long_pids(scenario, forker, told, 1)
    }

    /// The same, with PIDs of at least so many digits.
    pub fn with_long_pids(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool, digits: u32) -> Run<'a> {
        loop {
            let run = Run::with_any_pids(scenario, forker, told);
            if run.has_even_pids() && run.digits() >= digits {
                return run;
            }
        }
    }

    /// Whether all PIDs of this run, including those of future children, have the same number of digits. Otherwise a
    /// stamp over a longer one needs one more call, and the run is not comparable with the others.
    fn has_even_pids(&self) -> bool {
        let pids: Vec<i32> = self.book.noted.iter().map(|noted| noted.pid).collect();
        let (least, most) = (pids.iter().min().unwrap(), pids.iter().max().unwrap());
        (*most..most + 50).chain([*least]).all(|pid| pid < *PID_MAX && pid.ilog10() == most.ilog10())
    }

    fn with_any_pids(scenario: &'a Scenario<'a>, forker: &mut Forker, told: bool) -> Run<'a> {
        (scenario.before)();
        let files = Files::at(scenario.file);
        let content_at_the_beginning = files.named_content();
        let mut run = Run {
            scenario,
            processes: vec![],
            book: Book::default(),
            files,
            content_at_the_beginning,
            log: told.then(Vec::new),
            device: fs::metadata(scenario.directory).unwrap().dev(),
        };
        for actor in &scenario.actors {
            let (place, traced) = (run.processes.len(), forker.fork());
            let noted = Noted::of(actor, place, traced.pid);
            run.add(noted, traced, Met::by(place));
        }
        run
    }

    fn add(&mut self, noted: Noted, traced: Traced, met: Met) {
        let task = Task::new(traced.pid, self.device);
        let place = self.processes.len();
        self.book.noted.push(noted);
        self.processes.push(Process {
            task,
            traced,
            next: None,
            rest: Rest::default(),
            met,
            calls: 0,
            strike: None,
            events: vec![],
        });
        let stop = self.processes[place].traced.go_on_to_a_call();
        self.advance(place, stop);
    }

    /// Lets a process run on from this stop until it is about to make a step, or has ended.
    fn advance(&mut self, place: usize, mut stop: Stop) {
        loop {
            let strike = match stop {
                Stop::Entry(call) => self.strikes(place, call),
                _ => None,
            };
            let process = &mut self.processes[place];
            match stop {
                Stop::Entry(call) if is_sleep(process, call) => {
                    process.traced.replace(-i64::from(strike.unwrap_or(0)));
                    process.rest.sleep();
                    process.events.push(Event::Slept { awaits_a_death: call.number == libc::SYS_ppoll });
                    if let Some(log) = &mut self.log {
                        log.push(Line { place, what: "sleeps".into(), result: None });
                    }
                }
                Stop::Entry(call) => {
                    process.next = Step::of(call, &mut process.task, place, self.book.noted[place].has_lock_on());
                    if process.next.is_some() {
                        process.strike = strike;
                        return;
                    }
                    if let Some(errno) = strike {
                        fail(&mut process.traced, call, errno);
                    }
                    match call.number {
                        libc::SYS_close => process.events.push(Event::Closed(call.int(0))),
                        libc::SYS_openat => process.events.push(Event::Begun),
                        _ => {}
                    }
                }
                Stop::Forked(pid) => {
                    let child = self.processes.len();
                    self.processes[place].events.push(Event::Forked(child));
                    let noted = self.book.noted[place].forked(child, pid);
                    let met = self.processes[place].met.forked(child);
                    self.add(noted, Traced::forked(pid), met);
                }
                Stop::Ended(end) => {
                    process.next = None;
                    self.book.noted[place].end = Some(end);
                    return;
                }
                Stop::Exit(_) | Stop::Signal(_) | Stop::Executed => {}
            }
            stop = self.processes[place].traced.go_on_to_a_call();
        }
    }

    /// The errno with which this call is to fail, if it is the one.
    fn strikes(&mut self, place: usize, call: Syscall) -> Option<i32> {
        let fault = self.scenario.fault.filter(|fault| (fault.place, fault.call) == (place, call.number))?;
        // In a debug build std checks that what it closes is open.
        if call.number == libc::SYS_fcntl && call.int(1) == libc::F_GETFD {
            return None;
        }
        let process = &mut self.processes[place];
        process.calls += 1;
        let strikes = process.calls == fault.nth + 1;
        self.book.noted[place].struck |= strikes;
        strikes.then_some(fault.errno)
    }

    /// The processes that can make a step now. Empty if none can ever.
    pub fn ready(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.processes.len()).filter(|place| self.can_step(*place)).collect();
        if all.iter().all(|place| self.processes[*place].rest.asleep) {
            self.processes.iter_mut().for_each(|process| process.rest.wake());
        }
        all.retain(|place| !self.processes[*place].rest.asleep);
        all
    }

    fn can_step(&mut self, place: usize) -> bool {
        let process = &mut self.processes[place];
        let Some(step) = &process.next else { return false };
        step.awaited_lock().is_none_or(|(fd, operation)| self.files.could_lock(&mut process.task, fd, operation))
    }

    /// Whether the next step of a process is a look into /proc.
    pub fn will_look(&self, place: usize) -> bool {
        self.processes[place].next.as_ref().is_some_and(|step| step.kind == Kind::Look)
    }

    /// Whether the next step of a process is to create the file.
    pub fn will_create(&self, place: usize) -> bool {
        let creates = |step: &Step| step.kind == Kind::Open && step.call.int(2) & libc::O_CREAT != 0;
        self.processes[place].next.as_ref().is_some_and(creates)
    }

    /// The call that is the next step of a process. None: it has ended.
    pub fn next_call(&mut self, place: usize) -> Option<Call> {
        let pids = self.pids();
        let Process { next, task, met, .. } = &mut self.processes[place];
        next.as_ref().map(|step| Call::of(step, task, met, &pids))
    }

    /// What it has met, except for itself and the files behind these descriptors, means nothing to a process any more.
    pub fn forget(&mut self, place: usize, fds: &[(i32, i32)]) {
        let Process { task, met, .. } = &mut self.processes[place];
        let mut files: Vec<u64> =
            fds.iter().map(|(fd, _)| task.inode(*fd)).filter(|inode| met.files.contains(inode)).collect();
        files.dedup();
        met.forget(place, files);
    }

    fn pids(&self) -> Vec<i32> {
        self.book.noted.iter().map(|noted| noted.pid).collect()
    }

    /// How many digits all PIDs have.
    pub fn digits(&self) -> u32 {
        self.book.noted[0].pid.ilog10() + 1
    }

    fn answer(&mut self, place: usize, step: &Step, result: i64) -> Answer {
        let pids = self.pids();
        let Process { task, met, .. } = &mut self.processes[place];
        Answer::of(step, result, task, met, &pids)
    }

    /// How all have ended, and what is left of the file: the same text for runs that differ only in which of those that
    /// do the same work is which.
    pub fn end_state(&self, trades: &[Vec<usize>]) -> String {
        let content = self.named_content();
        let claim = content.as_ref().and_then(|content| claim(content, &self.pids()));
        let text = |places: &Vec<usize>| {
            let place_of = |place: usize| places.get(place).copied().unwrap_or(place);
            let mut ends: Vec<_> = self.book.noted.iter().map(|noted| (place_of(noted.place), noted.end)).collect();
            ends.sort_unstable_by_key(|(place, _)| *place);
            match claim {
                Some((place, newlines)) => format!("{ends:?} {} {newlines}", place_of(place)),
                None => format!("{ends:?} {content:?}"),
            }
        };
        trades.iter().map(text).min().unwrap()
    }

    /// The next step of a process, which has to be made now.
    pub fn take_step(&mut self, place: usize) -> Step {
        self.processes[place].next.take().unwrap()
    }

    /// Lets a process make this step. Only the kernel's state changes, not the record of it.
    pub fn make(&mut self, place: usize, step: &Step) -> Made {
        let strike = self.processes[place].strike.take();
        let traced = &mut self.processes[place].traced;
        let stop = match step.kind {
            _ if strike.is_some() => fail(traced, step.call, strike.unwrap_or(0)),
            Kind::Lock { .. } => traced.make(),
            _ if self.log.is_some() => traced.make(),
            _ => traced.go_on_to_a_call(),
        };
        let result = if let Stop::Exit(value) = stop { value } else { 0 };
        if let Some(log) = &mut self.log {
            let returns = !matches!(step.kind, Kind::End | Kind::Mark(_));
            log.push(Line { place, what: step.in_words(self.scenario), result: returns.then_some(result) });
        }
        let answer = self.log.is_some().then(|| self.answer(place, step, result));
        Made { result, answer, stop }
    }

    /// Wakes the processes that have seen what this step changed. The process that made it runs on to its next step.
    pub fn go_on(&mut self, place: usize, step: &Step, made: Made) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            if other == place { process.rest.touch(&step.touched) } else { process.rest.notice(&step.touched) }
        }
        if step.kind == Kind::Mark(KILL) && self.processes[0].next.take().is_some() {
            self.processes[0].traced.die();
        }
        self.advance(place, made.stop);
    }
}

/// Makes a call fail. A close that fails has closed all the same.
fn fail(traced: &mut Traced, call: Syscall, errno: i32) -> Stop {
    if call.number == libc::SYS_close {
        traced.make();
        traced.answer(-i64::from(errno));
    } else {
        traced.replace(-i64::from(errno));
    }
    Stop::Exit(-i64::from(errno))
}

impl View for Run<'_> {
    fn scenario(&self) -> &Scenario<'_> {
        self.scenario
    }
    fn book(&self) -> &Book {
        &self.book
    }
    fn book_mut(&mut self) -> &mut Book {
        &mut self.book
    }
    fn stale(&self) -> Option<i32> {
        let content = self.content_at_the_beginning.as_deref().and_then(|content| std::str::from_utf8(content).ok());
        content.and_then(|text| text.trim_end().parse().ok())
    }
    fn named(&self) -> Option<u64> {
        self.files.named()
    }
    fn named_content(&self) -> Option<Vec<u8>> {
        self.files.named_content()
    }
    fn content(&mut self, place: usize, fd: i32) -> Vec<u8> {
        self.files.content(&mut self.processes[place].task, fd)
    }
    fn could_share(&mut self, place: usize, fd: i32) -> bool {
        self.files.could_lock(&mut self.processes[place].task, fd, libc::LOCK_SH)
    }
    fn one_more(&mut self) -> Result<(), String> {
        let acquired = PidLock::options().sync(false).acquire(self.scenario.file);
        match acquired.and_then(PidLock::release) {
            Ok(()) if self.files.named().is_none() => Ok(()),
            result => Err(format!("{result:?}")),
        }
    }
}

fn is_sleep(process: &mut Process, call: Syscall) -> bool {
    match call.number {
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => true,
        libc::SYS_ppoll if process.task.nanoseconds(call.arguments[2]) > 0 => {
            process.rest.awaits_a_death();
            true
        }
        _ => false,
    }
}
