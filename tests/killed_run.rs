//! Deaths of `pidflock run`: each of its processes is killed before and after every single system call. These are `run`, the
//! process in between, the guard, and COMMAND while it starts. There are never two COMMANDs, and no name stays held.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod harness;
mod support;

use harness::trace::{self, Stop, Traced};
use pidflock::{PidLock, Wait};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::*;

/// The process to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// `run`, and then COMMAND until it sleeps.
    Run,
    Between,
    Guard,
}

/// Counts the stops of the victim, which dies at one of them.
struct Death {
    victim: Victim,
    stop: usize,
    seen: usize,
}

impl Death {
    /// Whether a process that is at a stop dies there. Then it is dead.
    fn comes(&mut self, who: Victim, process: &mut Traced) -> bool {
        if self.victim != who {
            return false;
        }
        self.seen += 1;
        if self.seen <= self.stop {
            return false;
        }
        assert_eq!(process.die(), End::Signal(libc::SIGKILL));
        true
    }
}

/// The result of one run.
struct Outcome {
    run: Option<Traced>,
    guard: Option<Traced>,
    /// The victim reached the stop at which it must die.
    killed: bool,
}

fn is_a_call(stop: Stop) -> bool {
    matches!(stop, Stop::Entry(_) | Stop::Exit(_))
}

fn spawn(options: &[&str], file: &str) -> Traced {
    let mut command = pidflock();
    command.arg("run").args(options).args([file, "sleep", "60"]).stdin(Stdio::null()).stderr(Stdio::null());
    Traced::spawn(move || panic!("{}", command.exec())).unwrap()
}

/// Follows one run until COMMAND sleeps, is killed, and the guard has ended; or until the victim is dead.
fn go_through(options: &[&str], file: &str, death: &mut Death) -> Outcome {
    let mut run = spawn(options, file);
    let (mut guard, mut programs, mut counts, mut calls) = (None, 0, false, 0);
    loop {
        match run.go_on() {
            Stop::Executed => programs += 1,
            Stop::Forked(between) => {
                let mut between = Traced::forked(between);
                run.set_off();
                if in_between(&mut between, &mut guard, death) {
                    // `run` goes on, and must fail.
                    let mut stop = run.wait();
                    while !matches!(stop, Stop::Ended(_)) {
                        assert_ne!(stop, Stop::Executed, "COMMAND has started");
                        stop = run.go_on();
                    }
                    assert_eq!(stop, Stop::Ended(End::Exit(71)));
                    return Outcome { run: None, guard, killed: true };
                }
                assert!(is_a_call(run.wait()));
            }
            Stop::Entry(call) if programs == 2 && call.number == libc::SYS_clock_nanosleep => break,
            Stop::Ended(end) => panic!("run has ended: {end:?}"),
            // Before this, only the dynamic linker runs, and so it does after the first calls of COMMAND.
            Stop::Entry(call) if programs == 1 && call.number == libc::SYS_rt_sigaction => counts = true,
            stop if is_a_call(stop) && counts && calls < 30 => {
                calls += programs - 1;
                if death.comes(Victim::Run, &mut run) {
                    return Outcome { run: None, guard, killed: true };
                }
            }
            _ => {}
        }
    }
    let mut process = guard.take().expect("a guard");
    loop {
        match process.go_on() {
            Stop::Ended(end) => {
                assert_eq!(end, End::Exit(0));
                return Outcome { run: None, guard: None, killed: false };
            }
            stop if is_a_call(stop) && death.comes(Victim::Guard, &mut process) => {
                let alive = fs::exists(format!("/proc/{}", run.pid)).unwrap();
                return Outcome { run: alive.then_some(run), guard: None, killed: true };
            }
            // It waits for COMMAND.
            Stop::Entry(call) if call.number == libc::SYS_ppoll => {
                assert_eq!(run.die(), End::Signal(libc::SIGKILL));
            }
            _ => {}
        }
    }
}

/// Follows the process in between: true if it was killed.
fn in_between(between: &mut Traced, guard: &mut Option<Traced>, death: &mut Death) -> bool {
    loop {
        match between.go_on() {
            Stop::Forked(pid) => *guard = Some(Traced::forked(pid)),
            Stop::Ended(end) => {
                assert_eq!(end, End::Exit(0));
                return false;
            }
            stop if is_a_call(stop) && death.comes(Victim::Between, between) => return true,
            _ => {}
        }
    }
}

fn second_run(file: &str) -> Option<i32> {
    Command::new(env!("CARGO_BIN_EXE_pidflock")).args(["run", "-x", file, "true"]).output().unwrap().status.code()
}

fn kill_everywhere(options: &[&str], victim: Victim) {
    let scratch = Scratch::in_memory();
    if let Some(reason) = trace::impossible() {
        return skip(&reason);
    }
    let file = scratch.path("x.pid");
    let mut deaths = 0;
    loop {
        let mut death = Death { victim, stop: deaths, seen: 0 };
        let Outcome { run, guard, killed } = go_through(options, file, &mut death);
        if !killed {
            break;
        }
        deaths += 1;
        let what = format!("{options:?}: {victim:?} killed at stop {deaths}");
        // The guard, if there is one, runs on untraced.
        let guard = guard.map(Traced::detach);
        if let Some(command) = run.map(Traced::detach) {
            // COMMAND lives without its guard, and has a copy of the lock, unless only the guard had one.
            if !options.contains(&"-o") {
                assert_eq!(second_run(file), Some(75), "{what}");
            }
            command.kill_and_wait();
        }
        // No process is left that could hold the name.
        let lock = PidLock::options().wait(Wait::For(Duration::from_secs(10))).acquire(file);
        let lock = lock.unwrap_or_else(|error| panic!("{what}: {error}"));
        lock.release().unwrap();
        if let Some(guard) = guard {
            let deadline = Instant::now() + Duration::from_secs(10);
            // The process that inherits orphans may be slow to wait for them.
            let stat = format!("/proc/{}/stat", guard.pid);
            let lives = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
            while lives() {
                assert!(Instant::now() < deadline, "{what}: the guard lives on");
                thread::sleep(Duration::from_millis(1));
            }
            std::mem::forget(guard); // not a child of this process
        }
        assert!(!fs::exists(file).unwrap(), "{what}");
    }
    assert!(deaths > 20, "{options:?}: {victim:?}: only {deaths} deaths");
    println!("deaths: {options:?}: {victim:?}: {deaths}");
}

#[test]
fn run_is_killed_and_command_while_it_starts() {
    kill_everywhere(&[], Victim::Run);
    kill_everywhere(&["-o"], Victim::Run);
}

#[test]
fn the_process_between_is_killed_and_command_does_not_start() {
    kill_everywhere(&[], Victim::Between);
    kill_everywhere(&["-o"], Victim::Between);
}

#[test]
fn the_guard_is_killed() {
    kill_everywhere(&[], Victim::Guard);
    kill_everywhere(&["-o"], Victim::Guard);
}
