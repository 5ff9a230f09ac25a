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

#[rustfmt::skip]
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),   ("INT", libc::SIGINT),       ("QUIT", libc::SIGQUIT), ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP), ("ABRT", libc::SIGABRT),     ("BUS", libc::SIGBUS),   ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL), ("USR1", libc::SIGUSR1),     ("SEGV", libc::SIGSEGV), ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE), ("ALRM", libc::SIGALRM),     ("TERM", libc::SIGTERM), ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT), ("STOP", libc::SIGSTOP),     ("TSTP", libc::SIGTSTP), ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU), ("URG", libc::SIGURG),       ("XCPU", libc::SIGXCPU), ("XFSZ", libc::SIGXFSZ),
    ("PROF", libc::SIGPROF), ("VTALRM", libc::SIGVTALRM), ("IO", libc::SIGIO),     ("WINCH", libc::SIGWINCH),
    ("SYS", libc::SIGSYS),
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
        let bare = match name.split_at_checked(3) {
            Some((prefix, bare)) if prefix.eq_ignore_ascii_case("SIG") => bare,
            _ => name,
        };
        NAMES.iter().find(|(text, _)| text.eq_ignore_ascii_case(bare)).map(|(_, number)| Signal(*number))
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
            Some((name, _)) => f.write_str(name),
            None => fmt::Debug::fmt(&self.0, f),
        }
    }
}
