//! Runs processes in every order of their system calls, and checks the properties after each call.
//!
//! A test describes a [`Scenario`]: the lock file, its state at the beginning, and the processes ([`Actor`]).
//! [`explore`] runs the scenario again and again, in a different order each time, on the real kernel. It returns what
//! it covered, or the story of the first order that breaks a property.
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
//! | `story` | the printed table of one order |
//! | `rules` | the properties, one function each |
//! | `run` | one run: processes that stop before each step, and what they wait for |
//! | `steps` | what a step is, what it reads and changes, which steps commute, and why that is sound |
//! | `world` | the kernel's state: inodes, locks, the name, descriptors, which processes live |
//! | `scenario` | what a test describes, and what it gets back |

mod past;
mod rules;
mod run;
mod scenario;
mod search;
mod steps;
mod story;
mod world;

pub use scenario::{Actor, CURRENT, Covered, DONE, ENTER, KILL, LEAVE, NOT_CURRENT, REFUSED, Scenario};
pub use search::explore;
