#![doc = include_str!("../README.md")]
#![no_std]
// Only `sys` and `fd` lift this, each with one `allow` on its `mod` line.
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, missing_docs, unreachable_pub)]
// One unsafe block holds one call, and its comment says what makes the call sound.
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
// A number changes its type only by a conversion that can fail.
#![deny(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
// The library must not panic: use `get`, iterators and the `checked_` methods instead.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "std")]
extern crate std;

// In reading order: each file uses only those below it, by their own names.
#[forbid(unsafe_code)]
mod lock;

#[forbid(unsafe_code)]
mod holder;

#[forbid(unsafe_code)]
mod contention;

#[forbid(unsafe_code)]
mod place;

#[forbid(unsafe_code)]
mod claim;

#[forbid(unsafe_code)]
mod evidence;

#[forbid(unsafe_code)]
mod process;

#[forbid(unsafe_code)]
mod options;

#[forbid(unsafe_code)]
mod path;

#[forbid(unsafe_code)]
mod signal;

#[allow(unsafe_code)]
mod sys;

#[forbid(unsafe_code)]
mod error;

#[forbid(unsafe_code)]
mod pid;

#[allow(unsafe_code)]
mod fd;

pub use error::{Call, Errno, Error, Message};
pub use fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
pub use holder::{Holder, State, probe, read_pid, read_pid_from, sharers, signal, wait_released};
pub use lock::PidLock;
pub use options::{Options, Wait};
pub use path::AsPath;
pub use pid::{InvalidPid, Pid};
pub use signal::{InvalidSignal, Signal};

/// From pidfile(3), daemonize, fslock, pidlock, Ruby, a shell, flock(1) or start-stop-daemon: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/coming-from.md")]
pub mod coming_from {}

/// Every message, its cause and what to do: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/messages.md")]
pub mod messages {}

/// Under init systems, cron, in containers, with C and Python: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/recipes.md")]
pub mod recipes {}
