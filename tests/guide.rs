//! Every step of the guide works, in the order of the page. The functions on the page are the ones of this file. ci/recipes
//! runs the daemon that forks, and ci/examples the program without std.
#![cfg(target_os = "linux")]

mod support;

use core::sync::atomic::{AtomicBool, Ordering};
use pidflock::{Error, FromRawFd, Holder, IntoRawFd, OwnedFd, PidLock, RawFd, Signal, State, Wait, probe};
use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};
use support::*;

const PAGE: &str = include_str!("../doc/guide.md");

/// The blocks of the page that begin in this way.
fn blocks(fence: &str) -> impl Iterator<Item = &'static str> {
    PAGE.split(fence).skip(1).map(|block| block.split_once("```").expect("a block that ends").0)
}

#[test]
fn every_shell_step_of_the_guide_works() {
    let scratch = Scratch::new();
    let steps: Vec<&str> = blocks("```sh\n").collect();
    assert!(steps.len() >= 5, "only {} steps", steps.len());
    // The first step runs in the background, and the next one needs the name to be held.
    let script = steps.join("\nuntil_held\n");
    let script = script.replace("/run/demo", scratch.path("demo"));
    let prelude = "until_held() { n=0; until test -s \"$PIDFILE\" || test \"$STEP\" != 0 || test $n = 100; do sleep 0.05; \
                   n=$((n + 1)); done; STEP=$((STEP + 1)); }\nSTEP=0\nset -e\n";
    let directory = Path::new(env!("CARGO_BIN_EXE_pidflock")).parent().expect("a directory");
    let path = format!("{}:{}", directory.display(), env::var("PATH").expect("PATH"));
    let output = Command::new("sh")
        .args(["-c", &(prelude.to_owned() + &script)])
        .env("PATH", path)
        .env("PIDFILE", scratch.path("demo/demo.pid"))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.trim().parse::<u32>().is_ok(), "the PID of the holder, and not {printed:?}");
    assert!(said.contains("already locked by process"), "{said}");
}

#[test]
fn every_function_of_the_guide_is_tested_here() {
    let here = include_str!("guide.rs");
    let mut functions = 0;
    for block in blocks("```rust,no_run\n").filter(|block| !block.contains("fn main(")) {
        let (_, function) = block.split_once("\n\n").expect("a function after what it uses");
        assert!(here.contains(function), "the page has another function:\n{function}");
        functions += 1;
    }
    assert!(functions >= 4, "only {functions} blocks with functions");
}

fn start(path: &str, program: &str) -> Result<Child, Box<dyn std::error::Error>> {
    let mut lock = Some(PidLock::acquire(path)?);
    let mut command = Command::new(program);
    let in_child = move || match lock.take().map(give) {
        Some(Err(_)) => Err(io::ErrorKind::Other.into()),
        _ => Ok(()),
    };
    // SAFETY: `give` makes only system calls, as a child before exec must.
    unsafe { command.pre_exec(in_child) };
    Ok(command.spawn()?) // and drops the parent's copy, which only closes
}

fn give(lock: PidLock) -> Result<(), Error> {
    lock.restamp()?; // the file names the child, which becomes the program
    let _stays_open = lock.hand_over()?.into_raw_fd();
    Ok(())
}

/// A program that takes no argument and stays.
fn daemon(scratch: &Scratch) -> &'static str {
    let program = scratch.path("demo");
    fs::write(program, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn the_supervisor_gives_the_name_to_the_program_that_it_starts() {
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let mut program = start(path, daemon(&scratch)).unwrap();
    let holder = Some(program.id().try_into().unwrap());
    let state = probe(path);
    let _ = program.kill();
    program.wait().unwrap();
    assert!(matches!(state, Ok(State::Held { holder: seen }) if seen == holder), "{state:?}, {holder:?}");
    assert_eq!(probe(path), Ok(State::Free { stale: holder }), "the program kept the name until its death");
}

/// In the old image. Returns only if the new one cannot be started.
fn upgrade(lock: PidLock, path: &str, program: &str) -> Result<PidLock, Error> {
    let fd = lock.hand_over()?.into_raw_fd();
    let error = Command::new(program).args([path, &fd.to_string()]).exec();
    eprintln!("{program}: {error}");
    adopt(fd, path)
}

/// In the new image, with the number from its arguments.
fn adopt(fd: RawFd, path: &str) -> Result<PidLock, Error> {
    // SAFETY: `hand_over` left this descriptor open, and nothing else uses it.
    PidLock::adopt(unsafe { OwnedFd::from_raw_fd(fd) }, path)
}

#[test]
fn an_upgrade_to_a_missing_program_keeps_the_name() {
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let lock = upgrade(PidLock::acquire(path).unwrap(), path, scratch.path("missing")).unwrap();
    assert_eq!(lock.is_current(), Ok(true));
    assert_eq!(lock.release(), Ok(()));
}

static STOP: AtomicBool = AtomicBool::new(false); // your handler of SIGTERM sets it

fn acquire(path: &str) -> Result<Option<PidLock>, Error> {
    let options = PidLock::options().wait(Wait::For(Duration::from_millis(200)));
    while !STOP.load(Ordering::Relaxed) {
        match options.acquire(path) {
            Err(Error::AlreadyLocked { .. }) => {}
            result => return result.map(Some),
        }
    }
    Ok(None)
}

#[test]
fn a_flag_ends_the_wait_in_pieces() {
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let held = PidLock::acquire(path).unwrap();
    let handler = thread::spawn(|| {
        thread::sleep(Duration::from_millis(100));
        STOP.store(true, Ordering::Relaxed);
    });
    assert!(acquire(path).unwrap().is_none());
    handler.join().unwrap();
    drop(held);
    STOP.store(false, Ordering::Relaxed);
    assert!(acquire(path).unwrap().is_some());
}

fn stop(path: &str) -> Result<(), Error> {
    let holder = Holder::find(path)?;
    holder.signal(Signal::TERM)?;
    match holder.wait(Wait::For(Duration::from_secs(10))) {
        Err(Error::AlreadyLocked { .. }) => {}
        result => return result,
    }
    holder.signal(Signal::KILL)?; // the same process, never its successor
    holder.wait(Wait::For(Duration::from_secs(10)))
}

#[test]
fn stop_ends_the_holder_and_waits_for_the_lock() {
    let scratch = Scratch::new();
    let path = scratch.path("demo.pid");
    let mut program = start(path, daemon(&scratch)).unwrap();
    let stopped = stop(path);
    let _ = program.kill();
    program.wait().unwrap();
    assert_eq!(stopped, Ok(()));
}
