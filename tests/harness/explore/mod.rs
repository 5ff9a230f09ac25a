//! Runs processes in every order of their system calls, and checks the properties after each call.
//!
//! A test describes a [`Scenario`]: the lock file, its state at the beginning, and the processes ([`Actor`]).
//! There are two searches. Each returns what it covered, or the story of the first order that breaks a property.
//!
//! - [`explore`] runs the scenario again and again, in a different order each time, on the real kernel.
//! - [`explore_states`] visits every state, with no bound on preemptions. It learns on the real kernel what the
//!   processes do, and computes what the kernel answers.
//!
//! The processes say what they believe with `trace::mark`: `mark(ENTER)` once they hold the name, `mark(LEAVE)` before
//! they release it. They exit with `DONE` or, if another process holds the name, with `REFUSED`.
//!
//! The files, each of which uses only those below it:
//!
//! | file | what it is |
//! |---|---|
//! | `search` | which orders are run: sleep sets, the bound on preemptions |
//! | `past` | which orders are equal to one that was run before |
//! | `states` | which states are visited: all |
//! | `model` | the kernel as a model, and what makes two states different |
//! | `learned` | what a process does after which answers, learned from runs, and what it remembers |
//! | `story` | the printed table of one order |
//! | `rules` | the properties, one function each |
//! | `run` | one run: processes that stop before each step, and what they wait for |
//! | `book` | what is noted of each process for the rules, in a run and in the model |
//! | `history` | the answers of the kernel to a process, and its calls, as they are in every run |
//! | `steps` | what a step is, what it reads and changes, which steps commute, and why that is sound |
//! | `world` | the kernel's state: inodes, locks, the name, descriptors, which processes live |
//! | `scenario` | what a test describes, and what it gets back |

mod book;
mod history;
mod learned;
mod model;
mod past;
mod rules;
mod run;
mod scenario;
mod search;
mod states;
mod steps;
mod story;
mod world;

pub use scenario::{Actor, CURRENT, Covered, DONE, ENTER, FAILED, Fault, KILL, LEAVE, NOT_CURRENT, REFUSED, Scenario};
pub use search::explore;
pub use states::explore_states;
