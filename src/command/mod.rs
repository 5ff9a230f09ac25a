//! The command: its subcommands.

// In reading order, as in the library.
#[forbid(unsafe_code)]
mod run;

#[forbid(unsafe_code)]
mod guard;

#[forbid(unsafe_code)]
mod status;

#[forbid(unsafe_code)]
mod stop;

#[forbid(unsafe_code)]
mod words;

#[forbid(unsafe_code)]
mod report;

#[forbid(unsafe_code)]
mod line;

#[allow(unsafe_code)]
pub(crate) mod sys;

use core::ffi::CStr;
use report::{Ended, HELP, misused, print};
use sys::Arguments;
use words::Words;

type Subcommand = fn(Words) -> Ended<u8>;

#[rustfmt::skip]
const SUBCOMMANDS: &[(&[u8], Subcommand)] = &[
    (b"run", run::run), (b"status", status::status), (b"signal", stop::signal), (b"stop", stop::stop),
    (b"wait", stop::wait), (b"-h", help), (b"--help", help), (b"-V", version), (b"--version", version),
];

/// Runs the subcommand that the arguments name, and returns the exit code.
pub(crate) fn main(mut arguments: Arguments) -> u8 {
    arguments.next(); // the name of the command
    let word = arguments.next().map_or(&b""[..], CStr::to_bytes);
    let Some((_, subcommand)) = SUBCOMMANDS.iter().find(|(name, _)| *name == word) else {
        return misused(if word.is_empty() { "missing subcommand" } else { "unknown subcommand" }, word);
    };
    match subcommand(Words::new(arguments)) {
        Ok(code) | Err(code) => code,
    }
}

fn help(_: Words) -> Ended<u8> {
    Err(print(HELP))
}

fn version(_: Words) -> Ended<u8> {
    Err(print(concat!("pidflock ", env!("CARGO_PKG_VERSION"), "\n")))
}
