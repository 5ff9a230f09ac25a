//! Which orders are run: at least one of each class of equal orders.
//!
//! Without a bound on preemptions the search uses sleep sets (Godefroid, Partial-Order Methods for the Verification of
//! Concurrent Systems, 1996). A process need not be tried again if its next step commutes with all that happened since
//! it was tried.
//!
//! With a bound, sleep sets would be wrong: of two equal orders, perhaps only the one that they omit is within the
//! bound. There the search begins every order within the bound. It abandons a beginning that equals an earlier one, if
//! the same process was last in both and the earlier one had at least as many preemptions left.

use super::{
    book::View,
    history::{Answer, Event},
    learned::{After, Histories},
    past::Past,
    rules::{check_end, checked_step},
    run::{MOST_STEPS, Run},
    scenario::{Covered, Scenario},
    steps::{CALLS, Touched, commute},
    story,
};
use crate::harness::{
    errors::calls_that_fail,
    trace::{Forker, stay_on_one_processor},
};
use std::collections::{BTreeSet, HashMap};

/// If a run fails to repeat the one before it so often in a row, the search starts again.
const MOST_DIVERGED: u32 = 20;

/// How often a search starts at most.
const MOST_STARTS: u32 = 20;

/// Runs the scenario in every order, up to equal ones and within its bounds. The error is the story of an order that
/// breaks a property.
pub fn explore(scenario: &Scenario) -> Result<Covered, String> {
    for _ in 0..MOST_STARTS {
        if let Some(result) = search(scenario).transpose() {
            return result;
        }
    }
    Err("the runs do not repeat each other".into())
}

/// One search; none if it has to start again.
fn search(scenario: &Scenario) -> Result<Option<Covered>, String> {
    stay_on_one_processor();
    let works: Vec<&dyn Fn() -> i32> = scenario.actors.iter().map(|actor| actor.work).collect();
    let also = scenario.fault.iter().flat_map(|_| calls_that_fail());
    let calls: Vec<i64> = CALLS.iter().copied().chain(also).collect();
    let mut forker = Forker::new(&calls, &works).map_err(|error| error.to_string())?;
    let mut search = Search {
        preemptions: scenario.preemptions,
        choices: vec![],
        continued: HashMap::new(),
        trades: scenario.trades(),
        learned: scenario.learns.then(Learned::new),
    };
    let (mut digits, mut diverged) = (1, 0);
    let mut covered = Covered::default();
    loop {
        let mut run = Run::with_long_pids(scenario, &mut forker, scenario.learns, digits);
        // With longer PIDs, some calls read more, and a process may need more of them.
        if covered.runs > 0 && run.digits() > digits {
            return Ok(None);
        }
        digits = run.digits();
        let (steps, end) = search.follow(&mut run);
        covered.runs += 1;
        covered.steps += steps;
        covered.windows += run.book().windows;
        covered.cut += u64::from(run.book().cut);
        covered.struck += u64::from(run.book().noted.iter().any(|noted| noted.struck));
        drop(run);
        if let Some(learned) = &search.learned {
            covered.histories = learned.histories.deeds.len();
        }
        match end {
            End::Complete(left) => {
                covered.orders += 1;
                covered.ends.insert(left);
            }
            End::Abandoned => {}
            End::Diverged if diverged < MOST_DIVERGED => {
                diverged += 1;
                continue;
            }
            End::Diverged => return Ok(None),
            End::Broken(wrong) => {
                let schedule: Vec<usize> = search.choices.iter().map(|choice| choice.chosen).collect();
                return Err(story::tell(scenario, &mut forker, &schedule, &wrong));
            }
        }
        diverged = 0;
        if !search.go_to_the_next_order() {
            return Ok(Some(Covered { complete: true, ..covered }));
        }
        if covered.orders >= scenario.most {
            return Ok(Some(covered));
        }
    }
}

/// How one run ended.
enum End {
    /// All processes have ended like this, and no property was broken.
    Complete(String),
    /// It was cut off, or all that can follow was run before.
    Abandoned,
    /// It did not repeat the run before: what the whole machine shares, such as the mounts in /proc, has changed.
    Diverged,
    /// What breaks a property. The last choice is the step that did.
    Broken(String),
}

/// A depth-first search. What is left to run follows from the choices of the last run.
struct Search {
    /// The bound.
    preemptions: Option<u32>,
    /// The choices of the current run, one a step.
    choices: Vec<Choice>,
    /// With a bound only: the beginnings that were continued, with the process that was last, and the fewest
    /// preemptions.
    continued: HashMap<(u64, Option<usize>), u32>,
    /// See `Scenario::alike`.
    trades: Vec<Vec<usize>>,
    learned: Option<Learned>,
}

/// The histories of the processes, for a search that learns them.
struct Learned {
    histories: Histories,
    /// Of each process of the current run.
    now: Vec<usize>,
}

impl Learned {
    fn new() -> Learned {
        Learned { histories: Histories::default(), now: vec![] }
    }

    fn begin(&mut self, run: &mut Run) -> Result<(), String> {
        self.now.clear();
        for place in 0..run.scenario.actors.len() {
            let kind = run.scenario.kind(place);
            self.now.push(self.histories.learn(run, place, After::Nothing { kind })?);
        }
        Ok(())
    }

    fn step(&mut self, run: &mut Run, place: usize, told: Option<(Answer, Option<i32>)>) -> Result<(), String> {
        let (answer, fd) = told.ok_or("a run that learns is told")?;
        let after = After::Answer { history: self.now[place], answer, fd };
        self.now[place] = self.histories.learn(run, place, after)?;
        let deed = &self.histories.deeds[self.now[place]];
        self.now.extend(deed.events.iter().filter_map(|event| match event {
            Event::Forked(root) => Some(root),
            _ => None,
        }));
        Ok(())
    }
}

/// One point of a run at which a process was chosen to make its step.
struct Choice {
    ready: Vec<usize>,
    /// The calls that the processes are about to make.
    calls: Vec<Option<i64>>,
    /// The processes that need not be tried: what begins with their step is covered elsewhere.
    sleeping: BTreeSet<usize>,
    tried: BTreeSet<usize>,
    chosen: usize,
    /// The process that made the step before.
    last: Option<usize>,
    /// The preemptions before this point.
    preemptions: u32,
}

impl Search {
    /// Repeats the choices that were made, then makes new ones until the run ends. Returns the number of steps as well.
    fn follow(&mut self, run: &mut Run) -> (u64, End) {
        let (mut past, mut depth, mut steps) = (Past::default(), 0, 0);
        let (mut sleeping, mut last, mut preemptions) = (BTreeSet::new(), None, 0);
        if let Some(Err(wrong)) = self.learned.as_mut().map(|learned| learned.begin(run)) {
            return (steps, End::Broken(wrong));
        }
        loop {
            let ready = run.ready();
            if ready.is_empty() {
                let left = run.end_state(&self.trades);
                return (steps, check_end(run).map_or_else(End::Broken, |()| End::Complete(left)));
            }
            if depth == self.choices.len() {
                if self.was_continued(&past, last, preemptions) {
                    return (steps, End::Abandoned);
                }
                let calls = calls(run);
                let mut choice =
                    Choice { ready, calls, sleeping, tried: BTreeSet::new(), chosen: 0, last, preemptions };
                let Some(chosen) = choice.next(self.preemptions) else { return (steps, End::Abandoned) };
                choice.chosen = chosen;
                self.choices.push(choice);
            }
            if depth == MOST_STEPS {
                return (steps, End::Broken("it goes on for ever".into()));
            }
            let choice = &self.choices[depth];
            let chosen = choice.chosen;
            if choice.calls != calls(run) {
                return (steps, End::Diverged);
            }
            let touched = touched(run, chosen).clone();
            sleeping = match self.preemptions {
                None => {
                    let stays = |other: &usize| *other != chosen && commute(self::touched(run, *other), &touched);
                    choice.sleeping.union(&choice.tried).copied().filter(stays).collect()
                }
                Some(_) => BTreeSet::new(),
            };
            (last, preemptions) = (Some(chosen), choice.preemptions_with(chosen));
            let told = checked_step(run, chosen);
            let learned = told.and_then(|told| match &mut self.learned {
                Some(learned) => learned.step(run, chosen, told),
                None => Ok(()),
            });
            if let Err(wrong) = learned {
                return (steps, End::Broken(wrong));
            }
            past.add(&run.book().noted[chosen].name, &touched);
            (steps, depth) = (steps + 1, depth + 1);
            if run.book().cut {
                return (steps, End::Abandoned);
            }
        }
    }

    /// Whether the search has continued an equal beginning, with at least as many preemptions left. Notes this one.
    fn was_continued(&mut self, past: &Past, last: Option<usize>, preemptions: u32) -> bool {
        if self.preemptions.is_none() {
            return false;
        }
        let fewest = self.continued.entry((past.sum(), last)).or_insert(u32::MAX);
        if *fewest <= preemptions {
            return true;
        }
        *fewest = preemptions;
        false
    }

    /// Changes the last choice that can be changed. False if nothing is left to run.
    fn go_to_the_next_order(&mut self) -> bool {
        while let Some(choice) = self.choices.last_mut() {
            choice.tried.insert(choice.chosen);
            if let Some(next) = choice.next(self.preemptions) {
                choice.chosen = next;
                return true;
            }
            self.choices.pop();
        }
        false
    }
}

impl Choice {
    /// The preemptions up to and including this candidate's step. A preemption is a switch away from a process that
    /// could have made the next step.
    fn preemptions_with(&self, candidate: usize) -> u32 {
        let preempts = self.last.is_some_and(|last| last != candidate && self.ready.contains(&last));
        self.preemptions + u32::from(preempts)
    }

    /// The next process to try here: first the one that made the step before.
    fn next(&self, most: Option<u32>) -> Option<usize> {
        let first = self.last.filter(|last| self.ready.contains(last));
        first.into_iter().chain(self.ready.iter().copied()).find(|candidate| {
            !self.sleeping.contains(candidate)
                && !self.tried.contains(candidate)
                && most.is_none_or(|most| self.preemptions_with(*candidate) <= most)
        })
    }
}

fn calls(run: &Run) -> Vec<Option<i64>> {
    run.processes.iter().map(|process| process.next.as_ref().map(|step| step.call.number)).collect()
}

/// What the next step of a process touches.
fn touched<'a>(run: &'a Run, place: usize) -> &'a Touched {
    &run.processes[place].next.as_ref().unwrap().touched
}
