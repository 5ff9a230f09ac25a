//! The messages of the command, and its exit codes.

use super::{
    line::{self, Line},
    sys::Stream,
};
use core::ffi::CStr;
use pidflock::{Errno, Error, Pid, State};

/// Exit codes: those of sysexits(3), of a shell (126, 127), and of the LSB for `status`.
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
pidflock run [-w | -t SECONDS] [-o | -x] [-E CODE] [-m MODE]
             PIDFILE COMMAND [ARG...]
    lock PIDFILE, become COMMAND, and hold the name while COMMAND lives
pidflock status PIDFILE
    print the PID of the holder
pidflock signal [-s SIGNAL] PIDFILE
    send a signal (TERM) to the holder, and to no other process
pidflock stop [-s SIGNAL] [-t SECONDS] [-k] PIDFILE
    send a signal (TERM), then wait until the holder releases the lock
pidflock wait [-t SECONDS] PIDFILE
    wait until no process holds PIDFILE
-w          wait without limit; without -w and -t, run does not wait
-t SECONDS  wait at most this long, .5 for half a second (stop: 10)
-o          COMMAND does not inherit the lock: the name is free once it ends
-x          no guard: COMMAND must keep the inherited descriptor open
-E CODE     exit with CODE instead of 75 if the name is held
-m MODE     permissions of PIDFILE, octal; without -m, 644 for a new one
-s SIGNAL   HUP, SIGHUP or 1; 0 only checks
-k          if still held then, send KILL and wait; -h, --help; -V, --version
exit: 0 done; 64 usage error; 71 system error, no holder, untrusted file;
75 held; 126, 127 COMMAND cannot run. Otherwise run ends as COMMAND does.
status: 0 held, 1 file not held, 3 no file, 4 unknown.
";

/// The result of a subcommand. `Err` is an exit code after an early end, with its message already printed.
pub(crate) type Ended<T> = Result<T, u8>;

/// Reports wrong usage: what is wrong, and the wrong word, if there is one.
pub(crate) fn misused(reason: &str, word: &[u8]) -> u8 {
    let mut line = Line::new();
    line.text(reason);
    if !word.is_empty() {
        line.text(": ").name(word);
    }
    line.text("; try 'pidflock --help'").complain();
    exit::USAGE
}

/// Reports that an operation on this file failed.
pub(crate) fn failed(file: &CStr, error: Error) -> u8 {
    let code = match error {
        Error::AlreadyLocked { .. } => exit::HELD,
        Error::InvalidPath => exit::USAGE,
        _ => exit::SYSTEM,
    };
    let mut line = Line::about(file);
    // An acquire believes the claim. A probe also asks the kernel.
    let state = if code == exit::HELD { pidflock::probe(file).ok() } else { None };
    match state {
        Some(State::Held { holder }) => name_holder(line.text("already "), file, holder),
        _ => line.message(error.message()),
    };
    line.complain();
    code
}

/// How many processes that share a lock are named.
const SHARERS_MAX: usize = 8;

/// Names the holder, or the processes that share the lock of a dead holder.
pub(crate) fn name_holder<'l>(line: &'l mut Line, file: &CStr, holder: Option<Pid>) -> &'l mut Line {
    line.text("locked by ");
    name_processes(line, file, holder)
}

fn name_processes<'l>(line: &'l mut Line, file: &CStr, holder: Option<Pid>) -> &'l mut Line {
    if let Some(pid) = holder {
        return line.process(pid);
    }
    let mut named = [None; SHARERS_MAX];
    let count = pidflock::sharers(file, &mut named).unwrap_or(0);
    line.text(match count {
        0 => return line.text("an unknown process"),
        1 => "process ",
        _ => "processes ",
    });
    for (index, pid) in named.iter().flatten().enumerate() {
        line.text(match index {
            0 => "",
            _ if index + 1 == count => " and ",
            _ => ", ",
        });
        line.number(pid.as_u32());
    }
    if count > SHARERS_MAX {
        line.text(" and others");
    }
    line.text(if count == 1 { ", which shares the lock" } else { ", which share the lock" })
}

/// Reports that the process named by an unlocked file is alive, if it is.
pub(crate) fn name_survivor<'l>(line: &'l mut Line, file: &CStr) -> Option<&'l mut Line> {
    let pid = pidflock::survivor(file).ok().flatten()?;
    Some(line.text("not locked; ").process(pid).text(", which it names, is alive"))
}

/// Reports that a system call of the command failed.
pub(crate) fn call_failed(file: &CStr, call: &str, errno: Errno) {
    Line::about(file).failure(call, errno).complain();
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> u8 {
    match line::send(Stream::OUT, text.as_bytes()) {
        Ok(()) => exit::OK,
        Err(errno) => {
            call_failed(c"standard output", "write", errno);
            exit::SYSTEM
        }
    }
}

/// On a terminal, reports which process we are about to wait for.
pub(crate) fn announce(pidfile: &CStr) -> Result<(), Error> {
    if Stream::ERR.is_terminal() {
        if let State::Held { holder } = pidflock::probe(pidfile)? {
            let mut line = Line::about(pidfile);
            name_processes(line.text("waiting for "), pidfile, holder).complain();
        }
    }
    Ok(())
}
