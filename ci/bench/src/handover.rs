//! How soon after the end of a holder a waiter has the name, and how often it wakes until then.
//!
//! For every death: a holder is forked and takes the name; a waiter is started and falls asleep; the holder is killed.
//! The time is from just before kill(2) to the moment when the waiter has the lock, on CLOCK_MONOTONIC. The same for a
//! holder that releases and lives on.

use crate::{
    Effort, bsd,
    floor::Path,
    process::{fork, kill, now, pipe, reap},
    report::Report,
    runner::Order,
    stats::quantile,
};
use pidflock::{Error, Options, PidLock, Wait};
use std::{
    env, fs,
    io::{Read, Write},
    os::fd::AsRawFd,
    process::{Child, Command},
    thread,
    time::Duration,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const TEN_SECONDS: Wait = Wait::For(Duration::from_secs(10));

/// A way to wait for a name.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    For,
    Forever,
    Poll,
    /// flock(1) of util-linux, which starts a command when it has the lock; the command is this program.
    Flock,
    /// flopen(3) of libbsd, which sleeps in flock(2) and opens again if the file was removed meanwhile.
    Flopen,
    /// Bare flock(2): what this machine can do at the moment.
    Kernel,
}

const WAYS: [(Way, &str); 6] = [
    (Way::Kernel, "flock(2) alone"),
    (Way::For, "Wait::For"),
    (Way::Forever, "Wait::Forever"),
    (Way::Flopen, "libbsd flopen(3)"),
    (Way::Poll, "acquire every 10 ms"),
    (Way::Flock, "flock -w 10 FILE COMMAND"),
];

/// The command that flock(1) starts: prints the time.
pub fn say_now() {
    std::io::stdout().write_all(&now().to_ne_bytes()).expect("a pipe to say the time into");
}

pub fn measure(report: &mut Report, effort: &Effort, place: &str, directory: &str) {
    let path = format!("{directory}/handover.pid");
    for (what, count, death) in [("death", effort.times(200), true), ("release", effort.times(40), false)] {
        let mut times: [Vec<f64>; WAYS.len()] = Default::default();
        let mut order = Order::new(WAYS.len());
        for number in 0..count {
            for &way in order.draw() {
                times[way].push(handover(&path, WAYS[way].0, death, number));
            }
        }
        for (&(way, name), samples) in WAYS.iter().zip(&times) {
            let quick = samples.iter().filter(|time| **time <= 1e6).count() as f64 * 100.0 / samples.len() as f64;
            let [p90, p99] = [90, 99].map(|percent| quantile(samples, percent) / 1e3);
            let what = format!("hand-over, {what}");
            let row = report.time(&what, place, name, samples, Some(&times[0]));
            row.remark = format!("90 % {p90:.0}, 99 % {p99:.0}, within 1 ms {quick:.1} %");
            if death && matches!(way, Way::For | Way::Forever) {
                report.promise_ratio(format!("{what}, {name}, over flock(2) alone"), samples, &times[0], 1.1);
            }
        }
    }
    for ((_, name), rate) in WAYS.iter().zip(wake_ups(&path, effort.seconds(3.0))) {
        report.row("wake-ups, waiting", place, name, &[rate], "/s", None);
    }
}

/// Nanoseconds from the end of a holder to a waiter that has the name.
fn handover(path: &str, way: Way, death: bool, number: usize) -> f64 {
    let mut holder = hold(path, way);
    let (waiter, mut time) = wait(path, way);
    until_asleep(waiter.pid());
    // At any time between two polls of the ways that poll, and after their pauses have grown.
    let grown = if death { 5 } else { 100 };
    thread::sleep(MILLISECOND * grown + Duration::from_micros(number as u64 * 7919 % 20_000));

    let end = now();
    if death {
        kill(holder.pid);
    } else {
        holder.go.write_all(b"!").expect("a holder that lets go");
    }
    let mut bytes = [0; 8];
    time.read_exact(&mut bytes).expect("a waiter that says when it has the name");
    waiter.end(true);
    kill(holder.pid);
    reap(holder.pid);
    u64::from_ne_bytes(bytes).saturating_sub(end) as f64
}

/// The wake-ups per second of each way to wait.
fn wake_ups(path: &str, duration: Duration) -> Vec<f64> {
    let holder = hold(path, Way::For);
    let waiters = WAYS.map(|(way, _)| wait(path, way).0);
    let switches = || waiters.iter().map(|waiter| voluntary_switches(waiter.pid())).collect::<Vec<u64>>();
    thread::sleep(MILLISECOND * 300); // the first pauses are short
    let before = switches();
    thread::sleep(duration);
    let rates = switches()
        .into_iter()
        .zip(before)
        .map(|(after, before)| (after - before) as f64 / duration.as_secs_f64())
        .collect();
    for waiter in waiters {
        waiter.end(false);
    }
    kill(holder.pid);
    reap(holder.pid);
    rates
}

struct Holder {
    pid: i32,
    go: fs::File,
}

/// Forks a holder that has the name, and releases it on request.
fn hold(path: &str, way: Way) -> Holder {
    let (mut ready, mut say_ready) = pipe();
    let (mut told, go) = pipe();
    let pid = fork(|| {
        // Plain flock cannot handle removed files, and so gets one that stays.
        let options = PidLock::options().remove_on_release(!matches!(way, Way::Flock | Way::Kernel));
        let lock = options.acquire(path).expect("a free name");
        say_ready.write_all(b"!").expect("a test that listens");
        told.read_exact(&mut [0]).expect("a test that talks");
        lock.release().expect("a release");
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.read_exact(&mut [0]).expect("a holder");
    Holder { pid, go }
}

enum Waiter {
    Forked(i32),
    Started(Child),
}

impl Waiter {
    fn pid(&self) -> i32 {
        match self {
            Waiter::Forked(pid) => *pid,
            Waiter::Started(child) => i32::try_from(child.id()).expect("a PID"),
        }
    }

    /// Waits for it, or kills it. Once it has the name it is not killed, because a child of flock(1) then has the lock, too.
    fn end(self, through: bool) {
        if !through {
            kill(self.pid());
        }
        match self {
            Waiter::Forked(pid) => reap(pid),
            Waiter::Started(mut child) => drop(child.wait()),
        }
    }
}

/// Starts a waiter that prints the time when it has the name.
fn wait(path: &str, way: Way) -> (Waiter, fs::File) {
    let (time, mut say_time) = pipe();
    if way == Way::Flock {
        let program = env::current_exe().expect("a program");
        let mut command = Command::new("flock");
        command.args(["-w", "10", path]).arg(program).arg("now").stdout(say_time);
        return (Waiter::Started(command.spawn().expect("flock(1) of util-linux")), time);
    }
    let pid = fork(|| {
        // This does not measure the disk.
        let options = PidLock::options().sync(false);
        let lock = match way {
            Way::For => options.wait(TEN_SECONDS).acquire(path).map(Some),
            Way::Forever => options.wait(Wait::Forever).acquire(path).map(Some),
            Way::Poll => poll(path, options).map(Some),
            Way::Flopen => {
                bsd::wait(&Path::new(path).whole);
                Ok(None)
            }
            Way::Kernel | Way::Flock => {
                let file = fs::File::open(path).expect("a PID file");
                assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
                std::mem::forget(file);
                Ok(None)
            }
        };
        let now = now();
        let _lock = lock.expect("the name");
        say_time.write_all(&now.to_ne_bytes()).expect("a test that listens");
        0
    });
    (Waiter::Forked(pid), time)
}

fn poll(path: &str, options: Options) -> Result<PidLock, Error> {
    loop {
        match options.acquire(path) {
            Err(Error::AlreadyLocked { .. }) => thread::sleep(MILLISECOND * 10),
            result => return result,
        }
    }
}

fn until_asleep(pid: i32) {
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        if stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S")) {
            return;
        }
        thread::yield_now();
    }
}

fn voluntary_switches(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok()).expect("a count")
}
