// In the reference, the links of the README lead to modules: the first definition counts.
#![doc = "[guide]: crate::guide"]
#![doc = "[coming]: crate::coming_from"]
#![doc = "[recipes]: crate::recipes"]
#![doc = "[proof]: crate::proof"]
#![doc = "[hazards]: crate::hazards"]
#![doc = "[messages]: crate::messages"]
#![doc = "[cost]: crate::cost"]
#![doc = "[audit]: crate::audit"]
#![doc = "[security]: crate::security"]
#![doc = "[changelog]: https://github.com/pidflock/pidflock/blob/main/CHANGELOG.md"]
#![doc = "[contributing]: https://github.com/pidflock/pidflock/blob/main/CONTRIBUTING.md"]
#![doc = ""]
#![doc = include_str!("../README.md")]
#![no_std]
// A nightly rustdoc marks the items that need a feature.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Only `sys` and `fd` lift this, each with one `allow` on its `mod` line.
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, missing_docs, unreachable_pub)]
// Each unsafe block holds one call, and its comment says why the call is sound.
#![deny(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
// Numbers change type only by conversions that can fail.
#![deny(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
// The library must not panic: use `get`, iterators and the `checked_` methods instead.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "std")]
extern crate std;

// In reading order: each file uses only the files below it, and imports each item from its file.
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
mod failure;

#[forbid(unsafe_code)]
mod error;

#[forbid(unsafe_code)]
mod pid;

#[allow(unsafe_code)]
mod fd;

pub use error::{Call, Errno, Error, Message};
pub use fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
pub use holder::{Holder, State, probe, read_pid, read_pid_from, sharers, signal, survivor, wait_released};
pub use lock::PidLock;
pub use options::{Options, Wait};
pub use path::AsPath;
pub use pid::{InvalidPid, Pid};
pub use signal::{InvalidSignal, Signal};

/// From zero to a guarded daemon; daemons that fork, supervisors, upgrades: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/guide.md")]
pub mod guide {}

/// What can go wrong with a PID file, and what to do: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = ""]
#[doc = "[SECURITY.md]: crate::security"]
#[doc = "[Recipes]: crate::recipes"]
#[doc = ""]
#[doc = include_str!("../doc/hazards.md")]
pub mod hazards {}

/// Under init systems, cron, in containers, with C and Python: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/recipes.md")]
pub mod recipes {}

/// From pidfile(3), daemonize, fslock, pidlock, Ruby, a shell, flock(1) or start-stop-daemon: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/coming-from.md")]
pub mod coming_from {}

/// Every message, its cause and what to do: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/messages.md")]
pub mod messages {}

/// How each guarantee is tested: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/proof.md")]
pub mod proof {}

/// Speed, waiting, size and stack: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/cost.md")]
pub mod cost {}

/// What to read in which order, and how to verify each claim: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../doc/audit.md")]
pub mod audit {}

/// Attackers, what they can do, and what is refused: a page, and no code.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../SECURITY.md")]
pub mod security {}
