//! The proof harness: `trace` stops processes at every system call, and `explore` runs them in every order.
#![allow(dead_code, unused_imports, reason = "each test file uses only a part")]

pub mod explore;
pub mod trace;
