//! A storm of COMMANDs under one name, of random length and killed at random, by starters without a pause. There are never two
//! at once, and at the end there is neither a guard nor a file.
//!
//! 400 of them, or as many as `PIDFLOCK_STORM_COMMANDS` says.
#![cfg(target_os = "linux")]

mod support;

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use support::*;

const STARTERS: u64 = 6;

/// The exit code of COMMAND if there is another one.
const TWO: i32 = 99;

/// Knuth's linear congruential generator; its high bits are the good ones.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[derive(Default)]
struct Counts {
    ended: AtomicU32,
    killed: AtomicU32,
    refused: AtomicU32,
}

impl Counts {
    fn commands(&self) -> u32 {
        self.ended.load(Relaxed) + self.killed.load(Relaxed)
    }
}

/// COMMAND takes a second lock, which the kernel drops at its end. If that lock is held, there are two COMMANDs.
fn start(random: &mut Random, path: &str, witness: &str, counts: &Counts) {
    let options: &[&str] = [&["-w"][..], &["-t", "10"], &["-ow"], &[]][random.below(4) as usize];
    let length = format!("0.00{}", random.below(10));
    let mut command = pidflock();
    command.arg("run").args(options).arg(path);
    command.args(["flock", "--no-fork", "-n", "-E", &TWO.to_string(), witness, "sleep", &length]);
    let mut running = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if random.below(2) == 0 {
        thread::sleep(Duration::from_micros(random.below(8000)));
        running.kill().unwrap();
    }
    let status = running.wait().unwrap();
    let count = match (status.code(), status.signal()) {
        (Some(0), _) => &counts.ended,
        (None, Some(libc::SIGKILL)) => &counts.killed,
        (Some(75), _) => &counts.refused,
        (Some(TWO), _) => panic!("two COMMANDs at once"),
        other => panic!("{other:?}"),
    };
    count.fetch_add(1, Relaxed);
}

/// The processes that have this file open.
fn openers(path: &str) -> usize {
    let has = |pid: &str| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok();
        open.is_some_and(|open| {
            open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|file| file.starts_with(path)))
        })
    };
    fs::read_dir("/proc").unwrap().flatten().filter(|entry| entry.file_name().to_str().is_some_and(has)).count()
}

#[test]
fn a_storm_of_commands() {
    if Command::new("flock").arg("--version").output().is_err() {
        return skip("flock(1) is missing");
    }
    let scratch = Scratch::in_memory();
    let (path, witness) = (scratch.path("pid"), scratch.path("witness"));
    let most = env::var("PIDFLOCK_STORM_COMMANDS").ok().and_then(|number| number.parse().ok()).unwrap_or(400);
    let counts = Counts::default();
    thread::scope(|scope| {
        for seed in 0..STARTERS {
            let counts = &counts;
            scope.spawn(move || {
                let mut random = Random(seed);
                while counts.commands() < most {
                    start(&mut random, path, witness, counts);
                }
            });
        }
    });
    // A run that was killed before it had a guard leaves its file to the next one.
    assert!(pidflock().args(["run", "-w", path, "true"]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::exists(path).unwrap() || openers(path) > 0 {
        assert!(Instant::now() < deadline, "a guard or a file is left");
        thread::sleep(Duration::from_millis(1));
    }
    println!(
        "storm: {} ended, {} killed, {} refused",
        counts.ended.load(Relaxed),
        counts.killed.load(Relaxed),
        counts.refused.load(Relaxed)
    );
}
