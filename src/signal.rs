//! `Signal`: number <-> name. Pure.

use crate::sys::LAST_SIGNAL;
use core::fmt;

/// A signal that the kernel knows, or 0, which only asks whether it could be sent: signal(7), kill(2).
///
/// ```
/// use pidflock::Signal;
///
/// assert_eq!(Signal::from_name("SIGHUP"), Some(Signal::HUP));
/// assert_eq!(Signal::from_raw(0), Some(Signal::CHECK));
/// assert_eq!(Signal::from_raw(-9), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// Padded, since a pointer to each would take more than they do.
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
    /// Nothing is sent: only asks whether a signal could be.
    pub const CHECK: Signal = Signal(0);
    /// Reload, by the custom of daemons.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// As Ctrl-C on a terminal.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// Please end: what kill(1) sends by default.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// For the program to define.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// For the program to define.
    pub const USR2: Signal = Signal(libc::SIGUSR2);

    /// The signal with this number: 0, or up to the last that this system has (64 on Linux, 127 there on MIPS).
    #[must_use]
    pub const fn from_raw(number: i32) -> Option<Signal> {
        if number < 0 || number > LAST_SIGNAL { None } else { Some(Signal(number)) }
    }

    /// The signal with this name, with or without `SIG`, in either case: `"HUP"`, `"SIGHUP"`, `"hup"`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Signal> {
        Signal::named(name.as_bytes())
    }

    /// The same, for what need not be UTF-8.
    #[doc(hidden)]
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Signal> {
        let bare = match name {
            [b'S' | b's', b'I' | b'i', b'G' | b'g', bare @ ..] => bare,
            _ => name,
        };
        let in_capitals = || bare.iter().map(u8::to_ascii_uppercase);
        let found = NAMES.iter().find(|(text, _)| in_capitals().eq(text.trim_ascii_end().iter().copied()));
        found.map(|(_, number)| Signal(*number))
    }

    /// Its number, as `kill(2)` takes it.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(core::str::from_utf8(name.trim_ascii_end()).unwrap_or_default()),
            None => fmt::Debug::fmt(&self.0, f),
        }
    }
}
