//! How long after the end of a holder does a waiter have the name, and how often does it wake until then?
//!
//! For every death: a holder is forked and takes the name; a waiter is started and falls asleep; the holder is killed.
//! The time is from just before kill(2) to the moment when the waiter has the lock and the stamp, on CLOCK_MONOTONIC,
//! which all processes share. The same for a holder that lets go and lives on.
//!
//! Usage: `handover [DEATHS]`. Exits with 1 if `Wait::For` or `Wait::Forever` take more than a millisecond after more
//! than a hundredth of the deaths.

use pidflock::{Error, Options, PidLock, Wait};
use std::{
    env, fs,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd},
    process::{Child, Command, ExitCode},
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
    /// flock(2), and nothing around it: what this machine can do at the moment.
    Kernel,
}

const WAYS: [(Way, &str); 5] = [
    (Way::Kernel, "flock(2) alone"),
    (Way::For, "Wait::For(10 s)"),
    (Way::Forever, "Wait::Forever"),
    (Way::Poll, "acquire every 10 ms"),
    (Way::Flock, "flock -w 10 FILE COMMAND *"),
];

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    if argument.as_deref() == Some("--now") {
        io::stdout().write_all(&now().to_ne_bytes()).expect("a pipe to say the time into");
        return ExitCode::SUCCESS;
    }
    let deaths: u32 = argument.map_or(1000, |text| text.parse().expect("DEATHS is a number"));
    let directory = env::temp_dir().join(format!("pidflock-handover-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory for the PID file");
    let path = directory.join("x.pid").into_os_string().into_string().expect("a path in UTF-8");

    let mut good = true;
    let (kill, release) = (deaths, deaths.div_ceil(5));
    for (what, count, death) in [("deaths by SIGKILL", kill, true), ("releases", release, false)] {
        println!("{count} {what}, microseconds until the waiter holds the name");
        println!("{:28} {:>8} {:>8} {:>8} {:>8}   within 1 ms", "", "median", "p90", "p99", "max");
        for (way, name) in WAYS {
            let mut times: Vec<u64> = (0..count).map(|number| handover(&path, way, death, number)).collect();
            times.sort_unstable();
            let [median, p90, p99, max] = [50, 90, 99, 100].map(|percent| quantile(&times, percent));
            let quick = times.iter().filter(|time| **time <= 1000).count() * 1000 / times.len();
            println!("{name:28} {median:>8} {p90:>8} {p99:>8} {max:>8} {:>9}.{} %", quick / 10, quick % 10);
            good &= quick >= 990 || !death || !matches!(way, Way::For | Way::Forever);
        }
        println!();
    }
    println!("* includes the start of COMMAND");
    println!();
    println!("wake-ups of a waiting process in a second (voluntary context switches, over 3 s)");
    for ((_, name), rate) in WAYS.iter().zip(wake_ups(&path)) {
        println!("{name:28} {}.{}", rate / 10, rate % 10);
    }
    let _ = fs::remove_dir_all(&directory);
    ExitCode::from(u8::from(!good))
}

/// The smallest time that so many percent do not exceed.
fn quantile(times: &[u64], percent: usize) -> u64 {
    times[(times.len() * percent).div_ceil(100) - 1]
}

/// Microseconds from the end of a holder to a waiter that has the name.
fn handover(path: &str, way: Way, death: bool, number: u32) -> u64 {
    let mut holder = hold(path, way);
    let (waiter, mut time) = wait(path, way);
    until_asleep(waiter.pid());
    // Anywhere between two looks of those that look; and with pauses that have grown, where it makes a difference.
    let grown = if death { 5 } else { 100 };
    thread::sleep(MILLISECOND * grown + Duration::from_micros((number * 7919 % 20_000).into()));

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
    u64::from_ne_bytes(bytes).saturating_sub(end) / 1000
}

/// Ten times the wake-ups per second of each way to wait.
fn wake_ups(path: &str) -> Vec<u64> {
    let holder = hold(path, Way::For);
    let waiters = WAYS.map(|(way, _)| wait(path, way).0);
    let switches = || waiters.iter().map(|waiter| voluntary_switches(waiter.pid())).collect::<Vec<u64>>();
    thread::sleep(MILLISECOND * 300); // the first pauses are short
    let before = switches();
    thread::sleep(MILLISECOND * 3000);
    let rates = switches().into_iter().zip(before).map(|(after, before)| (after - before) * 10 / 3).collect();
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

/// Forks a holder that has the name, and lets go when it is told.
fn hold(path: &str, way: Way) -> Holder {
    let (mut ready, mut say_ready) = pipe();
    let (mut told, go) = pipe();
    let pid = fork(|| {
        // Plain flock knows nothing of files that are removed, and so gets one that stays.
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

    /// Waits for it, or kills it, unless it has what it waits for: then flock(1) has a child that has the lock, too.
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

/// Starts a waiter that says the time when it has the name.
fn wait(path: &str, way: Way) -> (Waiter, fs::File) {
    let (time, mut say_time) = pipe();
    if way == Way::Flock {
        let program = env::current_exe().expect("a program");
        let mut command = Command::new("flock");
        command.args(["-w", "10", path]).arg(program).arg("--now").stdout(say_time);
        return (Waiter::Started(command.spawn().expect("flock(1) of util-linux")), time);
    }
    let pid = fork(|| {
        // The disk's part of a stamp is not what is measured here.
        let options = PidLock::options().sync(false);
        let lock = match way {
            Way::For => options.wait(TEN_SECONDS).acquire(path).map(Some),
            Way::Forever => options.wait(Wait::Forever).acquire(path).map(Some),
            Way::Poll => poll(path, options).map(Some),
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

/// A pipe: its end to read from, and its end to write to. Closed by exec.
fn pipe() -> (fs::File, fs::File) {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "{}", io::Error::last_os_error());
    ends.map(|end| unsafe { fs::File::from_raw_fd(end) }).into()
}

/// Nanoseconds on CLOCK_MONOTONIC.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
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

fn fork(work: impl FnOnce() -> i32) -> i32 {
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let code = work();
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

fn kill(pid: i32) {
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn reap(pid: i32) {
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
}
