//! The proof harness: `trace` stops processes at every system call, `explore` runs them in every order, and `errors` is
//! what each call can fail with.
#![allow(dead_code, unused_imports, reason = "each test file uses only a part")]

pub mod errors;
pub mod explore;
pub mod trace;
