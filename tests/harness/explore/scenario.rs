//! What a test describes, and what it gets back.

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

/// One process of a scenario.
pub struct Actor<'a> {
    pub name: &'static str,
    pub work: &'a dyn Fn() -> i32,
    /// It removes the file without taking the lock. Nobody can prevent that; the others must still harm nobody.
    pub rude: bool,
}

impl<'a> Actor<'a> {
    pub fn new(name: &'static str, work: &'a dyn Fn() -> i32) -> Actor<'a> {
        Actor { name, work, rude: false }
    }
}

pub struct Scenario<'a> {
    /// The directory of the lock file.
    pub directory: &'a str,
    pub file: &'a str,
    /// Makes the state in which every run begins.
    pub before: &'a dyn Fn(),
    pub actors: Vec<Actor<'a>>,
    /// Whether the file is gone once all processes have ended.
    pub leaves_nothing: bool,
    /// Orders with more preemptions than this are not run. None: every order is run.
    pub preemptions: Option<u32>,
    /// No more orders than this are run.
    pub most: u64,
}

/// What was covered.
#[derive(Debug, Default, Clone, Copy)]
pub struct Covered {
    pub orders: u64,
    /// How often the processes were run, including the runs that turned out to equal an earlier one.
    pub runs: u64,
    pub steps: u64,
    /// Whether no order within the bound was left.
    pub complete: bool,
    /// How often the state changed between the last look and the act, which no system call combines: beside a rude
    /// actor, a file of another process was removed; or the holder was signalled just after it had released.
    pub windows: u64,
    /// How many orders were cut off, because a process with a shared lock did not move for too long.
    pub cut: u64,
}
