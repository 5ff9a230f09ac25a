//! `Signal`: number <-> name. Pure.

use crate::pid;
use core::{error, fmt, str::FromStr};

/// A signal that the kernel knows, or 0, which only checks whether a signal could be sent: signal(7), kill(2).
///
/// ```
/// use pidflock::Signal;
///
/// assert_eq!(Signal::from_name("SIGHUP"), Some(Signal::HUP));
/// assert_eq!("hup".parse(), Ok(Signal::HUP));
/// assert_eq!(Signal::from_raw(0), Some(Signal::CHECK));
/// assert_eq!(Signal::from_raw(-9), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// The highest signal number. It differs between systems, and libc does not name it everywhere.
const LAST_SIGNAL: i32 = match i32::from_str_radix(env!("PIDFLOCK_LAST_SIGNAL"), 10) {
    Ok(number) => number,
    Err(_) => panic!("build.rs prints a number"),
};

/// Names of one length: a slice would add a pointer to each.
#[rustfmt::skip]
const NAMES: &[([u8; 6], i32)] = &[
    (*b"HUP   ", libc::SIGHUP),       (*b"INT   ", libc::SIGINT),       (*b"QUIT  ", libc::SIGQUIT),
    (*b"ILL   ", libc::SIGILL),       (*b"TRAP  ", libc::SIGTRAP),      (*b"ABRT  ", libc::SIGABRT),
    (*b"BUS   ", libc::SIGBUS),       (*b"FPE   ", libc::SIGFPE),       (*b"KILL  ", libc::SIGKILL),
    (*b"USR1  ", libc::SIGUSR1),      (*b"SEGV  ", libc::SIGSEGV),      (*b"USR2  ", libc::SIGUSR2),
    (*b"PIPE  ", libc::SIGPIPE),      (*b"ALRM  ", libc::SIGALRM),      (*b"TERM  ", libc::SIGTERM),
    (*b"CHLD  ", libc::SIGCHLD),      (*b"CONT  ", libc::SIGCONT),      (*b"STOP  ", libc::SIGSTOP),
    (*b"TSTP  ", libc::SIGTSTP),      (*b"TTIN  ", libc::SIGTTIN),      (*b"TTOU  ", libc::SIGTTOU),
    (*b"URG   ", libc::SIGURG),       (*b"XCPU  ", libc::SIGXCPU),      (*b"XFSZ  ", libc::SIGXFSZ),
    (*b"PROF  ", libc::SIGPROF),      (*b"VTALRM", libc::SIGVTALRM),    (*b"IO    ", libc::SIGIO),
    (*b"WINCH ", libc::SIGWINCH),     (*b"SYS   ", libc::SIGSYS),
];

impl Signal {
    /// Sends nothing: only checks whether a signal could be sent.
    pub const CHECK: Signal = Signal(0);
    /// Continues a stopped process, which then handles its other signals.
    pub const CONT: Signal = Signal(libc::SIGCONT);
    /// Reload, by convention of daemons.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Ctrl-C on a terminal.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// Ctrl-\ on a terminal. Several daemons finish their work first.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// Terminate: the default of kill(1).
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// For the program to define.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// For the program to define.
    pub const USR2: Signal = Signal(libc::SIGUSR2);

    /// The signal with this number: 0, or up to the last one that this system has (64 on Linux, 127 on Linux for MIPS).
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Signal> {
        if raw < 0 || raw > LAST_SIGNAL { None } else { Some(Signal(raw)) }
    }

    /// The number, as `kill(2)` takes it.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// The signal with this name, with or without `SIG`, in either case: `"HUP"`, `"SIGHUP"`, `"hup"`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Signal> {
        Signal::from_name_bytes(name.as_bytes())
    }

    fn from_name_bytes(name: &[u8]) -> Option<Signal> {
        let bare = match name {
            [b'S' | b's', b'I' | b'i', b'G' | b'g', bare @ ..] => bare,
            _ => name,
        };
        let in_capitals = || bare.iter().map(u8::to_ascii_uppercase);
        let found = NAMES.iter().find(|(text, _)| in_capitals().eq(text.trim_ascii_end().iter().copied()));
        found.map(|(_, number)| Signal(*number))
    }

    /// The signal with this name (see [`Signal::from_name`]) or this decimal number, as in kill(1). Takes bytes, since
    /// the arguments of a program need not be UTF-8.
    ///
    /// ```
    /// # use pidflock::Signal;
    /// assert_eq!(Signal::parse(b"SIGTERM"), Some(Signal::TERM));
    /// assert_eq!(Signal::parse(b"9"), Some(Signal::KILL));
    /// assert_eq!(Signal::parse(b"+9"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Signal> {
        match pid::number(text, 10) {
            Some(number) => Signal::from_raw(i32::try_from(number).ok()?),
            None => Signal::from_name_bytes(text),
        }
    }

    fn name(self) -> Option<&'static str> {
        let (name, _) = NAMES.iter().find(|(_, number)| *number == self.0)?;
        core::str::from_utf8(name.trim_ascii_end()).ok()
    }
}

/// Prints the name without `SIG`: `HUP`. Prints the number if there is no name, as for 0 and real-time signals.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parses like [`Signal::parse`].
impl FromStr for Signal {
    type Err = InvalidSignal;

    fn from_str(text: &str) -> Result<Signal, InvalidSignal> {
        Signal::parse(text.as_bytes()).ok_or(InvalidSignal)
    }
}

/// The text is neither the name nor the number of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvalidSignal;

impl fmt::Display for InvalidSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a signal")
    }
}

impl error::Error for InvalidSignal {}
