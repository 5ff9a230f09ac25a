//! The proof harness: processes that stand still at every system call, and an explorer that runs them in every order.
#![allow(dead_code, unused_imports, reason = "each test file uses only a part")]

pub mod explore;
pub mod trace;
