//! The programs of examples/ do what their first lines say. `cargo test` builds them. To run only this file, use
//! `cargo build --examples && cargo test --test examples`. ci/examples runs the two that are separate crates.

mod support;

use pidflock::{Pid, Signal, State, Wait, probe, signal, wait_released};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};
use support::Scratch;

/// Longer than anything here takes.
const A_WHILE: Wait = Wait::For(Duration::from_secs(30));

/// cargo puts an example beside the folder of the tests.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "it is not built: cargo build --examples");
    program
}

/// A running example and its output. Killed on drop.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(program: impl Into<PathBuf>, path: &str) -> Running {
        let mut child = Command::new(program.into()).arg(path).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it has ended").unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::try_from(self.child.id()).unwrap()
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn held_by(path: &str) -> Option<Pid> {
    match probe(path).unwrap() {
        State::Held { holder } => holder,
        other => panic!("nobody holds it: {other:?}"),
    }
}

fn refused(program: PathBuf, path: &str) {
    let second = Command::new(program).arg(path).output().unwrap();
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    assert!(String::from_utf8(second.stderr).unwrap().contains("already locked by process"));
}

fn without_an_argument(name: &str) {
    assert_eq!(Command::new(example(name)).output().unwrap().status.code(), Some(64));
}

#[test]
fn the_daemon_is_the_only_one_reloads_at_hup_and_releases_at_term() {
    without_an_argument("daemon");
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let mut daemon = Running::start(example("daemon"), path);
    assert_eq!(daemon.line(), format!("serving as process {}", daemon.pid()));
    assert_eq!(held_by(path), Some(daemon.pid()));
    refused(example("daemon"), path);
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(signal(path, Signal::HUP), Ok(daemon.pid()));
    assert_eq!(daemon.line(), "reloaded");
    assert!(fs::metadata(path).unwrap().modified().unwrap() > long_ago, "the restamp touches the file");
    assert_eq!(held_by(path), Some(daemon.pid()));
    signal(path, Signal::TERM).unwrap();
    assert_eq!(daemon.end(), Some(0));
    assert_eq!(probe(path), Ok(State::Absent));
}

#[test]
fn the_forking_daemon_returns_when_the_file_names_the_child() {
    without_an_argument("forking_daemon");
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let parent = Running::start(example("forking_daemon"), path);
    let launcher = parent.pid();
    assert_eq!(parent.end(), Some(0));
    let daemon = held_by(path).unwrap();
    assert_ne!(daemon, launcher);
    refused(example("forking_daemon"), path);
    assert_eq!(held_by(path), Some(daemon));
    assert_eq!(signal(path, Signal::TERM), Ok(daemon));
    assert_eq!(wait_released(path, A_WHILE), Ok(()));
    assert_eq!(probe(path), Ok(State::Absent));
}

#[test]
fn an_upgrade_keeps_the_pid_and_the_lock_and_one_that_fails_changes_nothing() {
    without_an_argument("upgrade");
    let scratch = Scratch::new();
    let (path, program) = (scratch.path("demo.pid"), PathBuf::from(scratch.path("upgrade")));
    fs::copy(example("upgrade"), &program).unwrap();
    let mut daemon = Running::start(&program, path);
    let pid = daemon.pid();
    assert_eq!(daemon.line(), format!("serving as process {pid}, started"));
    for generation in 0..3 {
        assert_eq!(signal(path, Signal::USR2), Ok(pid), "{generation}");
        assert_eq!(daemon.line(), format!("serving as process {pid}, upgraded"));
        assert_eq!(held_by(path), Some(pid));
        refused(program.clone(), path);
    }
    fs::remove_file(&program).unwrap();
    signal(path, Signal::USR2).unwrap();
    assert_eq!(daemon.line(), format!("serving as process {pid}, as before"));
    assert_eq!(held_by(path), Some(pid));
    refused(example("upgrade"), path);
    signal(path, Signal::TERM).unwrap();
    assert_eq!(daemon.end(), Some(0));
    assert_eq!(probe(path), Ok(State::Absent));
}

/// The upgrade fails before the new program adopts the lock, then after it, and then succeeds.
#[test]
#[cfg(feature = "std")]
fn an_upgrade_beside_that_fails_leaves_the_name_with_the_old_process() {
    use std::{io::Write, os::unix::fs::MetadataExt};
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    for fail in ["early", "late", "never"] {
        let mut command = Command::new(example("upgrade_beside"));
        command.arg(path).env("FAIL", fail).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (mut stdin, lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let mut daemon = Running { child, lines };
        let old = daemon.pid();
        assert_eq!(daemon.line(), format!("serving as {old}"));
        let inode = fs::metadata(path).unwrap().ino();
        writeln!(stdin, "upgrade").unwrap();
        let line = daemon.line();
        let holder = if fail == "never" {
            assert!(daemon.child.wait().unwrap().success());
            line.strip_prefix("serving as ").unwrap().parse().unwrap()
        } else {
            assert_eq!(line, format!("not upgraded, serving as {old}"), "{fail}");
            old
        };
        assert_eq!(holder != old, fail == "never");
        assert_eq!(held_by(path), Some(holder), "{fail}");
        assert_eq!(signal(path, Signal::CHECK), Ok(holder), "{fail}");
        assert_eq!(fs::metadata(path).unwrap().ino(), inode, "{fail}");
        let refused = pidflock::PidLock::acquire(path).map(drop);
        assert_eq!(refused, Err(pidflock::Error::AlreadyLocked { holder: Some(holder) }), "{fail}");
        writeln!(stdin, "stop").unwrap();
        assert_eq!(wait_released(path, A_WHILE), Ok(()), "{fail}");
        assert_eq!(probe(path), Ok(State::Absent), "{fail}");
    }
}
