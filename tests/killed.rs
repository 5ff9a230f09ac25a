//! Property 3: after any death, the next acquire succeeds at once, and the file reads as one whole PID or as nothing.
//!
//! A kill ends an operation before and after every single system call that it makes.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod harness;
mod support;

use harness::trace::{self, MARK, Stop, Traced, mark};
use pidflock::PidLock;
use std::fs;
use support::*;

const BEGIN: i32 = 10;

type Work<'a> = &'a dyn Fn(&str);

/// Kills the work after this many stops, each before or after a call. Returns false once the work ends before that.
fn kill_at(stop: usize, file: &str, before: Work, work: Work) -> bool {
    let _ = fs::remove_file(file);
    before(file);
    let mut traced = Traced::spawn(|| {
        work(file);
        0
    })
    .unwrap();
    let (mut inside, mut stops) = (false, 0);
    loop {
        match traced.go_on() {
            Stop::Entry(call) if call.number == libc::SYS_prctl && call.int(0) == MARK => inside = true,
            Stop::Entry(_) | Stop::Exit(_) if inside && stops == stop => break,
            Stop::Entry(_) | Stop::Exit(_) if inside => stops += 1,
            Stop::Ended(end) => {
                assert_eq!(end, End::Exit(0));
                return false;
            }
            _ => {}
        }
    }
    let pid = traced.pid;
    traced.kill();
    let left = fs::read_to_string(file).unwrap_or_default();
    let number = left.trim_end_matches('\n');
    let whole = number.is_empty() || number.parse().is_ok_and(|number| [pid, i32::MAX].contains(&number));
    assert!(whole, "killed at stop {stop}: the file reads as {left:?}");
    let lock = PidLock::acquire(file).unwrap_or_else(|error| panic!("killed at stop {stop}: {error}"));
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{}\n", std::process::id()));
    lock.release().unwrap();
    assert!(!fs::exists(file).unwrap());
    true
}

fn kill_everywhere(what: &str, before: Work, work: Work) {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        return skip(&reason);
    }
    let file = scratch.path("x.pid");
    let deaths = (0..).take_while(|stop| kill_at(*stop, file, before, work)).count();
    assert!(deaths > 10, "{what}: only {deaths} deaths");
    println!("deaths: {what}: {deaths}");
}

fn nothing(_: &str) {}

fn stale(file: &str) {
    fs::write(file, "2147483647\n").unwrap();
}

#[test]
fn killed_while_it_acquires() {
    let acquire = |file: &str| {
        mark(BEGIN);
        std::mem::forget(PidLock::acquire(file).unwrap());
    };
    kill_everywhere("acquire", &nothing, &acquire);
    kill_everywhere("acquire over a stale file", &stale, &acquire);
}

#[test]
fn killed_while_it_restamps() {
    kill_everywhere("restamp", &nothing, &|file| {
        let lock = PidLock::acquire(file).unwrap();
        // A longer claim, as of a parent with a higher PID, so that the stamp must truncate it.
        fs::write(file, "2147483647\n").unwrap();
        mark(BEGIN);
        lock.restamp().unwrap();
        std::mem::forget(lock);
    });
}

#[test]
fn killed_while_it_releases() {
    kill_everywhere("release", &nothing, &|file| {
        let lock = PidLock::acquire(file).unwrap();
        mark(BEGIN);
        lock.release().unwrap();
    });
    kill_everywhere("release that leaves the file behind", &nothing, &|file| {
        let lock = PidLock::options().remove_on_release(false).acquire(file).unwrap();
        mark(BEGIN);
        lock.release().unwrap();
    });
}

#[test]
fn killed_while_it_adopts() {
    kill_everywhere("hand over and adopt", &nothing, &|file| {
        let lock = PidLock::acquire(file).unwrap();
        mark(BEGIN);
        std::mem::forget(PidLock::adopt(lock.hand_over().unwrap(), file).unwrap());
    });
}
