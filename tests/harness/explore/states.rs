//! Which states are visited: every one that can be reached in any order, with no bound on preemptions.
//!
//! What a process does after an answer of the kernel is learned on the real kernel (`history`). What the kernel answers
//! is computed (`model`), and compared with the real kernel in every run made there. So a state takes no run, and the
//! search visits all. It needs no steps that commute.
//!
//! Three kinds of states are run on the real kernel, to the end: one for each new history, each in which all have ended,
//! and every five hundredth. There the rules are checked, too, and one more process acquires the name. An order that
//! breaks a rule in the model is printed as it happens on the real kernel.
//!
//! Why that is sound: a state (`Model::state`) has all that decides what can follow. Each process that can make a step
//! there makes it, in the model. The model answers as the kernel does, and a process does what it did in a run with the
//! same answers (`learned`). So every state that an order leads to is visited, and every rule is checked there.

use super::{
    book::View,
    learned::{After, Histories},
    model::Model,
    rules::{Moment, Verdict, check, check_end, checked_step},
    run::{MOST_STEPS, Run},
    scenario::{Covered, Scenario},
    steps::{CALLS, Kind, Step},
    story,
};
use crate::harness::trace::{Forker, stay_on_one_processor};
use std::collections::{BTreeSet, HashMap};

/// A run on the real kernel for every so many states.
const STATES_FOR_A_RUN: usize = 500;

/// Visits every state of the scenario. The error is the story of an order that breaks a property.
pub fn explore_states(scenario: &Scenario) -> Result<Covered, String> {
    stay_on_one_processor();
    let works: Vec<&dyn Fn() -> i32> = scenario.actors.iter().map(|actor| actor.work).collect();
    let mut forker = Forker::new(CALLS, &works).map_err(|error| error.to_string())?;
    let mut digits = None;
    loop {
        let mut search = Search {
            scenario,
            histories: Histories::default(),
            digits,
            content: None,
            trades: scenario.trades(),
            known: HashMap::new(),
            covered: Covered::default(),
            ends: BTreeSet::new(),
        };
        match search.visit_all(&mut forker) {
            Ok(()) => {
                let Search { covered, known, ends, .. } = search;
                return Ok(Covered {
                    states: known.len() as u64,
                    histories: search.histories.deeds.len(),
                    ends,
                    ..covered
                });
            }
            Err(Stopped::LongerPids(longer)) => digits = Some(longer),
            Err(Stopped::Broken(story)) => return Err(story),
        }
    }
}

enum Stopped {
    /// All is to be done again with PIDs of so many digits, as they have now.
    LongerPids(u32),
    Broken(String),
}

impl From<String> for Stopped {
    fn from(story: String) -> Stopped {
        Stopped::Broken(story)
    }
}

struct Search<'a> {
    scenario: &'a Scenario<'a>,
    histories: Histories,
    digits: Option<u32>,
    /// Of the file, at the beginning.
    content: Option<Vec<u8>>,
    trades: Vec<Vec<usize>>,
    /// The states that were visited, with the number of orders that go on from each.
    known: HashMap<u128, f64>,
    covered: Covered,
    ends: BTreeSet<String>,
}

/// A state on the way from the beginning to the current one.
struct Point<'a> {
    model: Model<'a>,
    state: u128,
    ready: Vec<(usize, Step)>,
    /// How many of those were tried.
    tried: usize,
    orders: f64,
}

impl<'a> Search<'a> {
    fn visit_all(&mut self, forker: &mut Forker) -> Result<(), Stopped> {
        self.run(forker, &[])?;
        let first = self.beginning();
        let state = first.state(&self.trades);
        let mut way = vec![self.point(first, state)];
        while let Some(point) = way.last_mut() {
            let Some((place, step)) = point.ready.get(point.tried).cloned() else {
                let Point { state, orders, .. } = way.pop().unwrap();
                self.known.insert(state, orders);
                if let Some(before) = way.last_mut() {
                    before.orders += orders;
                }
                continue;
            };
            point.tried += 1;
            if self.known.len() as u64 > self.scenario.most_states {
                self.covered.complete = false;
                return Ok(());
            }
            self.covered.steps += 1;
            let mut model = point.model.clone();
            let schedule = || way.iter().map(|point| point.ready[point.tried - 1].0).collect::<Vec<usize>>();
            let moved = self.checked_move(&mut model, place, &step, &schedule(), forker)?;
            if let Err(wrong) = moved {
                return Err(Stopped::Broken(self.tell(forker, &schedule(), &wrong)));
            }
            if way.len() == MOST_STEPS {
                return Err(Stopped::Broken(self.tell(forker, &schedule(), "it goes on for ever")));
            }
            if model.book().cut {
                self.covered.cut += 1;
                continue;
            }
            let state = model.state(&self.trades);
            if let Some(orders) = self.known.get(&state) {
                way.last_mut().unwrap().orders += orders;
                continue;
            }
            let schedule = schedule();
            let mut next = self.point(model, state);
            if self.known.len() % STATES_FOR_A_RUN == 0 {
                self.run(forker, &schedule)?;
            }
            if next.ready.is_empty() {
                if let Err(wrong) = check_end(&mut next.model) {
                    return Err(Stopped::Broken(self.tell(forker, &schedule, &wrong)));
                }
                self.run(forker, &schedule)?;
                next.orders = 1.0;
            }
            way.push(next);
        }
        self.covered.all_orders = self.known[&state];
        self.covered.complete = true;
        Ok(())
    }

    fn beginning(&self) -> Model<'a> {
        Model::at_the_beginning(self.scenario, self.content.clone(), self.digits.unwrap(), &self.histories)
    }

    fn point(&mut self, mut model: Model<'a>, state: u128) -> Point<'a> {
        self.known.insert(state, 0.0);
        let ready = model.ready(&self.histories);
        Point { model, state, ready, tried: 0, orders: 0.0 }
    }

    /// Makes a step in the model, and checks the properties before and after it. The inner error is what breaks one.
    fn checked_move(
        &mut self,
        model: &mut Model<'a>,
        place: usize,
        step: &Step,
        schedule: &[usize],
        forker: &mut Forker,
    ) -> Result<Verdict, Stopped> {
        let signals = matches!(step.kind, Kind::Signal { .. });
        if signals && !model.book().noted[place].refused_by.is_empty() {
            return Err(Stopped::Broken("which process was in the way of a lock is no part of a state".into()));
        }
        if let Err(wrong) = check(model, Moment::Before(place, step)) {
            return Ok(Err(wrong));
        }
        let told = model.make(&self.histories, place, step)?;
        model.note(place, step, told.result);
        if let Err(wrong) = check(model, Moment::After(place, step)) {
            return Ok(Err(wrong));
        }
        model.wake(place, step);
        let before = model.history(place);
        let history = match self.histories.after(before, &told.answer) {
            Some(history) => history,
            None => {
                self.run(forker, schedule)?;
                self.histories
                    .after(before, &told.answer)
                    .ok_or("a run has not taught what it was made for".to_string())?
            }
        };
        model.go_on(place, &self.histories, history, &told, step);
        Ok(match model.book().noted[place].end {
            Some(end) => check(model, Moment::Ended(place, end)),
            None => Ok(()),
        })
    }

    /// Makes these steps on the real kernel and goes on to the end, beside a model. Learns what each process does, and
    /// compares all answers.
    fn run(&mut self, forker: &mut Forker, schedule: &[usize]) -> Result<(), Stopped> {
        let mut run = Run::with_long_pids(self.scenario, forker, true, self.digits.unwrap_or(1));
        self.covered.runs += 1;
        let digits = run.digits();
        if *self.digits.get_or_insert(digits) != digits {
            return Err(Stopped::LongerPids(digits));
        }
        self.content = run.content_at_the_beginning.clone();
        for place in 0..self.scenario.actors.len() {
            let kind = self.scenario.kind(place);
            self.histories.learn(&mut run, place, After::Nothing { kind })?;
        }
        let mut model = self.beginning();
        let mut made: Vec<usize> = vec![];
        loop {
            let (mut really, computed) = (run.ready(), model.ready(&self.histories));
            really.retain(|place| !model.book().noted[*place].only_reads);
            if !really.iter().eq(computed.iter().map(|(place, _)| place)) {
                return Err(Stopped::Broken(format!(
                    "ready are {really:?}, and in the model {computed:?}, after {made:?}"
                )));
            }
            let next = schedule.get(made.len()).copied().or_else(|| {
                let last = made.last().copied().filter(|last| really.contains(last));
                last.or_else(|| really.first().copied())
            });
            let Some(place) = next else { break };
            made.push(place);
            let (_, step) = computed.into_iter().find(|(other, _)| *other == place).unwrap();
            let told = model.make(&self.histories, place, &step)?;
            model.note(place, &step, told.result);
            model.wake(place, &step);
            let before = model.history(place);
            let answered = checked_step(&mut run, place);
            let (answer, fd) = match answered {
                Ok(told) => told.unwrap(), // the run has a log
                Err(wrong) => return Err(Stopped::Broken(self.tell(forker, &made, &wrong))),
            };
            if answer != told.answer {
                let wrong = format!("the kernel's answer is {answer:?}, and the model's {:?}", told.answer);
                return Err(Stopped::Broken(self.tell(forker, &made, &wrong)));
            }
            self.covered.compared += 1;
            let history = self.histories.learn(&mut run, place, After::Answer { history: before, answer, fd })?;
            model.go_on(place, &self.histories, history, &told, &step);
            if run.book().cut || made.len() == MOST_STEPS {
                return Ok(());
            }
        }
        while let Some(observer) = run.ready().first().copied() {
            made.push(observer);
            checked_step(&mut run, observer).map_err(|wrong| Stopped::Broken(self.tell(forker, &made, &wrong)))?;
        }
        self.ends.insert(run.end_state(&self.trades));
        check_end(&mut run).map_err(|wrong| Stopped::Broken(self.tell(forker, &made, &wrong)))
    }

    fn tell(&self, forker: &mut Forker, schedule: &[usize], wrong: &str) -> String {
        story::tell(self.scenario, forker, schedule, wrong)
    }
}
