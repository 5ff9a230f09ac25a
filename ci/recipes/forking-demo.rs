//! The daemon that forks, as a program: `check` adds `fn example()` from the guide, and this file what it serves, like demo.c.

use std::{fs::File, io::Write, process};

mod guide {
    use super::serve;
    include!("fork.rs");
}

fn main() {
    if let Err(error) = guide::example() {
        eprintln!("forking-demo: {error}");
        let held = matches!(error.downcast_ref(), Some(pidflock::Error::AlreadyLocked { .. }));
        process::exit(if held { 75 } else { 71 });
    }
}

fn serve() {
    let note = |file, what: &str| {
        let mut file = File::options().append(true).create(true).open(file).unwrap();
        writeln!(file, "{what}{}", process::id()).unwrap();
    };
    // SAFETY: plain system calls on a set of our own.
    let next = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGHUP);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        move || {
            let mut signal = 0;
            libc::sigwait(&set, &mut signal);
            signal
        }
    };
    note("/starts/demo", "");
    note("/events", "started ");
    while next() != libc::SIGTERM {
        note("/events", "reloaded ");
    }
    note("/events", "stopped ");
    process::exit(0)
}
