//! What a test describes, and what it gets back.

use std::collections::BTreeSet;

/// Marks of the traced code. The process believes that it holds the name.
pub const ENTER: i32 = 1;
/// The process is about to release the name.
pub const LEAVE: i32 = 2;
/// `is_current` has just returned true.
pub const CURRENT: i32 = 3;
/// `is_current` has just returned false.
pub const NOT_CURRENT: i32 = 4;
/// The process asks for the death of the first process of the scenario, by SIGKILL, at whatever step that one is.
pub const KILL: i32 = 5;

/// Exit status: the process did all its work.
pub const DONE: i32 = 0;
/// Exit status: another process holds the name.
pub const REFUSED: i32 = 1;
/// Exit status: another error.
pub const FAILED: i32 = 3;

/// One process of a scenario.
#[derive(Clone)]
pub struct Actor<'a> {
    pub name: &'static str,
    pub work: &'a dyn Fn() -> i32,
    /// It removes the file without taking the lock. Nobody can prevent that; the others must still harm nobody.
    pub rude: bool,
    /// Once it has looked into /proc it only reads, which a rule checks. The others can do nothing then that they could
    /// not do without it. So a search that visits states follows it up to that look.
    pub observer: bool,
}

impl<'a> Actor<'a> {
    pub fn new(name: &'static str, work: &'a dyn Fn() -> i32) -> Actor<'a> {
        Actor { name, work, rude: false, observer: false }
    }
}

/// A call that fails: of the process in this place, the `nth` call of this number, counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub place: usize,
    pub call: i64,
    pub nth: u32,
    pub errno: i32,
}

pub struct Scenario<'a> {
    /// The directory of the lock file.
    pub directory: &'a str,
    pub file: &'a str,
    /// Makes the state in which every run begins.
    pub before: &'a dyn Fn(),
    pub actors: Vec<Actor<'a>>,
    /// So many of the first actors do the same work.
    pub alike: usize,
    /// For a search of orders.
    pub fault: Option<Fault>,
    /// Whether the file is gone once all processes have ended.
    pub leaves_nothing: bool,
    /// Orders with more preemptions than this are not run. None: every order is run.
    pub preemptions: Option<u32>,
    /// No more orders than this are run.
    pub most: u64,
    /// No more states than this are visited.
    pub most_states: u64,
    /// Whether a process forgets: see `history`. Without it there are more histories and states, and the same ends.
    pub forgets: bool,
    /// Whether a search of orders learns histories, as one of states does, to be compared with that.
    pub learns: bool,
}

impl Scenario<'_> {
    /// Actors of the same kind do the same work: the place of the first of them.
    pub fn kind(&self, place: usize) -> usize {
        if place < self.alike { 0 } else { place }
    }

    /// All ways in which actors of the same kind may trade places: of each actor, the place that it gets.
    pub fn trades(&self) -> Vec<Vec<usize>> {
        let mut all = vec![vec![]];
        for place in 0..self.actors.len() {
            let to = if place < self.alike { 0..self.alike } else { place..place + 1 };
            all = all
                .iter()
                .flat_map(|places: &Vec<usize>| {
                    let free = to.clone().filter(|place| !places.contains(place));
                    free.map(|place| [places.as_slice(), &[place]].concat()).collect::<Vec<_>>()
                })
                .collect();
        }
        all
    }
}

/// What was covered.
#[derive(Debug, Default, Clone)]
pub struct Covered {
    pub orders: u64,
    /// How often the processes were run, including the runs that turned out to equal an earlier one.
    pub runs: u64,
    pub steps: u64,
    /// Whether no order within the bound was left.
    pub complete: bool,
    /// How often the state changed between the last look and the act, which no system call combines. Beside a rude
    /// actor, a file of another process was removed. Or the holder was signalled just after it had released.
    pub windows: u64,
    /// How many orders were cut off, because a process with a shared lock did not move for too long.
    pub cut: u64,
    /// In how many runs the fault came to pass.
    pub struck: u64,
    /// Of a search that visits states: how many states, and how many orders lead through them.
    pub states: u64,
    pub all_orders: f64,
    /// How many answers of the model were compared with the kernel's.
    pub compared: u64,
    /// How many different histories the processes have.
    pub histories: usize,
    /// How the processes can end, and what they can leave.
    pub ends: BTreeSet<String>,
}
