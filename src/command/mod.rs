//! The command: its subcommands, its exit codes, and how it says that something failed.

mod line;
mod run;
mod status;
mod stop;
mod words;

use core::ffi::CStr;
use line::Line;
use pidflock::{
    Call, Errno, Error, State,
    command::{Arguments, Stream},
};
use words::Words;

/// Exit codes, by the numbers of sysexits(3), of a shell (126, 127), and of the LSB for `status`.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const SYSTEM: u8 = 71;
    pub(crate) const HELD: u8 = 75;
    pub(crate) const CANNOT_EXECUTE: u8 = 126;
    pub(crate) const NO_COMMAND: u8 = 127;
    pub(crate) const STATUS_STALE: u8 = 1;
    pub(crate) const STATUS_ABSENT: u8 = 3;
    pub(crate) const STATUS_UNKNOWN: u8 = 4;
}

pub(crate) const HELP: &str = "\
One process owns a name: flock(2) on a PID file.
pidflock run [-w | -t SECONDS] [-m MODE] PIDFILE COMMAND [ARG...]
    lock PIDFILE, write the PID into it, and become COMMAND: the name is taken
    for as long as COMMAND lives
pidflock status PIDFILE
    print the PID of the holder
pidflock signal [-s SIGNAL] PIDFILE
    send a signal (TERM) to the holder, and never to anybody else
pidflock stop [-s SIGNAL] [-t SECONDS] [-k] PIDFILE
    send a signal (TERM), then wait until the holder has let go
pidflock wait [-t SECONDS] PIDFILE
    wait until nobody holds PIDFILE

-w          wait, for as long as it takes; without -w and -t run does not wait
-t SECONDS  wait that long at most, 0.5 for half a second; stop: 10
-m MODE     permissions of a new PIDFILE, octal; 644
-s SIGNAL   HUP, SIGHUP or 1; 0 only checks
-k          after the wait, send KILL and wait once more
-h, --help; -V, --version

exit: 0 done; 64 wrong usage; 71 system error, nobody to signal, or untrusted
file; 75 held by another; 126, 127 COMMAND cannot be run, else its own.
status: 0 held, 1 a file that nobody holds, 3 no file, 4 unknown.
";

/// What a subcommand ends with: an exit code, in `Err` if it ends early, what there is to say having been said.
pub(crate) type Ended<T> = Result<T, u8>;

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
        return misused(if word.is_empty() { "a subcommand is missing" } else { "no such subcommand" }, word);
    };
    match subcommand(Words::new(arguments)) {
        Ok(code) | Err(code) => code,
    }
}

/// Says that the command was called wrongly: what is wrong, and the word that is, if there is one.
pub(crate) fn misused(reason: &str, word: &[u8]) -> u8 {
    let mut line = Line::new();
    line.text(reason);
    if !word.is_empty() {
        line.text(": ").name(word);
    }
    line.text("; try 'pidflock --help'").complain();
    exit::USAGE
}

/// Says that an operation on this file failed.
pub(crate) fn failed(file: &CStr, error: Error) -> u8 {
    Line::about(file).error(error).complain();
    match error {
        Error::AlreadyLocked { .. } => exit::HELD,
        Error::InvalidPath => exit::USAGE,
        Error::Sys { call: Call::Exec, errno: Errno::NotFound } => exit::NO_COMMAND,
        Error::Sys { call: Call::Exec, .. } => exit::CANNOT_EXECUTE,
        _ => exit::SYSTEM,
    }
}

fn help(_: Words) -> Ended<u8> {
    Err(print(HELP))
}

fn version(_: Words) -> Ended<u8> {
    Err(print(concat!("pidflock ", env!("CARGO_PKG_VERSION"), "\n")))
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> u8 {
    match line::send(Stream::OUT, text.as_bytes()) {
        Ok(()) => exit::OK,
        Err(error) => failed(c"standard output", error),
    }
}

/// Says on a terminal whom we are about to wait for.
pub(crate) fn announce(pidfile: &CStr) -> Result<(), Error> {
    if Stream::ERR.is_terminal() {
        if let State::Held { holder } = pidflock::probe(pidfile)? {
            let mut line = Line::about(pidfile);
            line.text("waiting for ");
            match holder {
                Some(pid) => line.process(pid),
                None => line.text("a process that cannot be named"),
            };
            line.complain();
        }
    }
    Ok(())
}
