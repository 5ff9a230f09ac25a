//! The command, end to end: its effects, its messages and its exit codes.

mod support;

use pidflock::PidLock;
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        process::{CommandExt, ExitStatusExt},
    },
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::*;

/// The exit code and the output of a command that has ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    end: End,
    out: String,
    err: String,
}

fn said(code: i32, out: impl Into<String>, err: impl Into<String>) -> Said {
    Said { end: End::Exit(code), out: out.into(), err: err.into() }
}

fn end(status: process::ExitStatus) -> End {
    status.code().map_or_else(|| End::Signal(status.signal().unwrap()), End::Exit)
}

/// Runs `pidflock` with these arguments to its end.
fn say<A: AsRef<OsStr>>(arguments: &[A]) -> Said {
    finish(pidflock().args(arguments))
}

fn finish(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Said { end: end(output.status), out, err }
}

/// A running program. Killed and waited for on drop.
struct Running(process::Child);

impl Running {
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.wait();
    }

    fn wait(&mut self) -> End {
        end(self.0.wait().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Its open descriptors, and what they lead to. It may close some while this reads them.
    fn descriptors(&self) -> Vec<(i32, String)> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().flatten();
        let mut descriptors: Vec<(i32, String)> = entries
            .filter_map(|entry| {
                let file = fs::read_link(entry.path()).ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, file.to_str()?.to_owned()))
            })
            .collect();
        descriptors.sort();
        descriptors
    }

    /// Whether it ignores a signal.
    fn ignores(&self, signal: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (signal - 1) != 0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the progress of another program.
#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within ten seconds");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts `command`, which becomes `sleep`, and returns once it sleeps. Before that its libraries may be open.
fn asleep(command: &mut Command) -> Running {
    let running = Running(command.stdin(Stdio::null()).spawn().unwrap());
    let status = format!("/proc/{}/stat", running.0.id());
    until(|| fs::read_to_string(&status).unwrap().contains("(sleep) S"));
    running
}

/// The beginning of `run`: `pidflock run PIDFILE`, and options before it.
fn run(options: &[&str], path: &str) -> Command {
    let mut command = pidflock();
    command.arg("run").args(options).arg(path);
    command
}

/// A holder that sleeps, with the default action for every signal.
fn hold(path: &str) -> Running {
    hold_with(&[], path)
}

fn hold_with(options: &[&str], path: &str) -> Running {
    let mut command = run(options, path);
    unsafe { command.pre_exec(|| signals(libc::SIG_DFL, &[libc::SIGHUP, libc::SIGUSR1, libc::SIGTERM])) };
    asleep(command.args(["sleep", "60"]))
}

/// A holder that sleeps and ignores TERM.
fn hold_against_term(path: &str) -> Running {
    let mut command = run(&[], path);
    unsafe { command.pre_exec(|| signals(libc::SIG_IGN, &[libc::SIGTERM])) };
    asleep(command.args(["sleep", "60"]))
}

/// Between fork and exec: sets the action of these signals.
fn signals(action: libc::sighandler_t, signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        unsafe { libc::signal(*signal, action) };
    }
    Ok(())
}

/// The line about a file.
fn line(path: &str, text: impl std::fmt::Display) -> String {
    format!("pidflock: {path}: {text}\n")
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

// run

#[test]
fn run_holds_the_name_for_command_and_creates_the_directories() {
    let scratch = Scratch::new();
    let path = scratch.path("a/b/pid");
    let mut holder = hold(path);
    assert!(is_locked(path));
    assert_eq!(fs::read_to_string(path).unwrap(), format!("{}\n", holder.pid()));
    holder.kill();
    until(|| !exists(path));
}

#[test]
fn a_second_run_is_refused_and_does_not_run_command() {
    let scratch = Scratch::new();
    let (path, trace) = (scratch.path("pid"), scratch.path("trace"));
    let mut holder = hold(path);
    let refused = line(path, format_args!("already locked by process {}", holder.pid()));
    for (options, code) in
        [(&[][..], 75), (&["-t", "0"], 75), (&["-t.05"], 75), (&["-E", "9"], 9), (&["-ot0", "-E0"], 0)]
    {
        assert_eq!(finish(run(options, path).args(["touch", trace])), said(code, "", &*refused), "{options:?}");
    }
    assert!(!exists(trace));
    assert_eq!(fs::read_to_string(path).unwrap(), format!("{}\n", holder.pid()));
    assert!(holder.lives());
}

#[test]
fn run_ends_as_command_does() {
    let scratch = Scratch::new();
    for code in [0, 1, 7, 75, 255] {
        let ended =
            finish(run(&[], scratch.path("pid")).args(["sh", "-c", &format!("echo x; echo y >&2; exit {code}")]));
        assert_eq!(ended, said(code, "x\n", "y\n"));
    }
    let ended = finish(run(&[], scratch.path("pid")).args(["sh", "-c", "kill -9 $$"]));
    assert_eq!(ended.end, End::Signal(9));
}

#[test]
fn a_command_that_cannot_be_run_leaves_the_name_free_and_no_file() {
    let scratch = Scratch::new();
    let (path, plain, missing) = (scratch.path("pid"), scratch.path("plain"), scratch.path("missing"));
    fs::write(plain, "#!/bin/sh\n").unwrap();
    let table = [
        (missing, 127, "no such file or directory"),
        ("pidflock-no-such-command", 127, "no such file or directory"),
        (plain, 126, "permission denied"),
        (scratch.directory.to_str().unwrap(), 126, "permission denied"),
    ];
    for (command, code, reason) in table {
        for stale in [None, Some("4194305\n")] {
            if let Some(text) = stale {
                fs::write(path, text).unwrap();
            }
            let failed = finish(run(&[], path).arg(command).env("PATH", scratch.directory.as_os_str()));
            assert_eq!(failed, said(code, "", line(command, format_args!("exec: {reason}"))));
            assert!(!exists(path), "{command}");
        }
    }
    assert_eq!(finish(run(&[], path).arg("true")).end, End::Exit(0));
}

#[test]
fn run_sets_the_mode_and_by_default_keeps_the_mode_of_an_existing_file() {
    let scratch = Scratch::new();
    for (name, options, mode) in [
        ("a", &["-xm", "600"][..], 0o600),
        ("b", &["-xm0640"], 0o640),
        ("c", &["-x"], 0o644),
        ("c", &["-x", "-m", "600"], 0o600),
        ("c", &["-x"], 0o600),
        ("c", &["-x", "-m", "664"], 0o664), // whatever the umask
        ("d", &["-m", "666", "-xm", "600"], 0o600),
    ] {
        let path = scratch.path(name);
        let mut command = run(options, path);
        unsafe { command.pre_exec(|| (libc::umask(0o022), Ok(())).1) };
        assert_eq!(finish(command.arg("true")), said(0, "", ""), "{options:?}");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode, "{options:?}");
    }
}

#[test]
fn options_end_at_two_dashes_and_at_pidfile() {
    let scratch = Scratch::new();
    let in_scratch = |arguments: &[&str]| finish(pidflock().current_dir(&scratch.directory).args(arguments));
    let print = ["sh", "-c", "echo \"$@\"", "-"];
    for (before, pidfile) in
        [(&["run", "-x", "--"][..], "-t"), (&["run", "-xwm600", "--"], "--"), (&["run", "-x"], "-")]
    {
        let arguments = [before, &[pidfile], &print, &["-t", "-h", "--", "--help"]].concat();
        assert_eq!(in_scratch(&arguments), said(0, "-t -h -- --help\n", ""), "{arguments:?}");
        assert!(scratch.directory.join(pidfile).exists(), "{arguments:?}");
        assert_eq!(in_scratch(&["status", "--", pidfile]).end, End::Exit(1));
    }
    // After PIDFILE nothing is an option, even this.
    let refused = finish(run(&[], scratch.path("pid")).args(["--", "true"]).env("PATH", scratch.path("nowhere")));
    assert_eq!(refused, said(127, "", line("--", "exec: no such file or directory")));
}

#[test]
fn run_waits_for_a_holder_that_is_killed() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for options in [&["-t", "60"][..], &["-w"]] {
        let mut holder = hold(path);
        let mut waiting = Running(run(options, path).args(["sleep", "60"]).spawn().unwrap());
        until(|| waiting.descriptors().iter().any(|(_, file)| file == path));
        assert!(waiting.lives());
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{}\n", holder.pid()));
        holder.kill();
        until(|| fs::read_to_string(path).unwrap_or_default() == format!("{}\n", waiting.pid()));
        assert!(is_locked(path));
    }
}

// What COMMAND inherits.

/// The descriptors of `sleep` alone and under `run`, and the one that leads to the PID file, removed from the second list.
fn inherited(path: &str, prepare: fn() -> io::Result<()>) -> (Vec<i32>, Vec<i32>, i32) {
    let (mut plain, mut held) = (Command::new("sleep"), run(&[], path));
    unsafe { plain.pre_exec(prepare) };
    unsafe { held.pre_exec(prepare) };
    let (plain, held) = (asleep(plain.arg("60")).descriptors(), asleep(held.args(["sleep", "60"])).descriptors());
    let (locked, others) = held.into_iter().partition::<Vec<_>, _>(|(_, file)| file == path);
    assert_eq!(locked.len(), 1);
    let numbers = |descriptors: Vec<(i32, String)>| descriptors.into_iter().map(|(number, _)| number).collect();
    (numbers(plain), numbers(others), locked[0].0)
}

#[test]
fn command_inherits_the_locked_descriptor_and_no_other() {
    let scratch = Scratch::new();
    let (plain, others, locked) = inherited(scratch.path("pid"), || Ok(()));
    assert_eq!(others, plain);
    assert!(locked > 2);
}

#[test]
fn the_lock_never_becomes_a_standard_stream() {
    let scratch = Scratch::new();
    let (plain, others, locked) = inherited(scratch.path("pid"), || {
        (0..3).for_each(|stream| assert_eq!(unsafe { libc::close(stream) }, 0));
        Ok(())
    });
    assert_eq!(others, plain);
    assert!(plain.iter().all(|number| *number > 2));
    assert!(locked > 2);
}

#[test]
fn command_inherits_the_disposition_of_the_file_size_signal() {
    let scratch = Scratch::new();
    for (action, ignored) in [(libc::SIG_DFL, false), (libc::SIG_IGN, true)] {
        let mut command = run(&[], scratch.path("pid"));
        unsafe { command.pre_exec(move || signals(action, &[libc::SIGXFSZ])) };
        assert_eq!(asleep(command.args(["sleep", "60"])).ignores(libc::SIGXFSZ), ignored);
    }
}

#[test]
fn a_run_under_a_file_size_limit_fails_with_a_message_and_does_not_die() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = run(&[], path);
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    unsafe {
        command.pre_exec(move || {
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
            signals(libc::SIG_DFL, &[libc::SIGXFSZ])
        })
    };
    assert_eq!(finish(command.arg("true")), said(71, "", line(path, "pwrite: file too large")));
    assert!(!exists(path));
}

/// After a failed exec `run` writes no more bytes than before.
#[test]
fn a_command_that_cannot_be_run_under_a_file_size_limit_leaves_the_name_free_and_no_file() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for stale in [None, Some("4194305\n"), Some("2147483647\n"), Some("A text of more than thirty-two bytes.\n")] {
        if let Some(text) = stale {
            fs::write(path, text).unwrap();
        }
        let mut command = run(&[], path);
        let limit = move || {
            // Exactly a stamp, padded to the length of the text that it replaces.
            let stamp = process::id().to_string().len() as u64 + 1;
            let old = fs::metadata(path).map_or(0, |of| of.len());
            let most = if old > 32 { stamp } else { old.max(stamp) };
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
            signals(libc::SIG_DFL, &[libc::SIGXFSZ])
        };
        unsafe { command.pre_exec(limit) };
        let failed = finish(command.arg("/no/such/command"));
        assert_eq!(failed, said(127, "", line("/no/such/command", "exec: no such file or directory")), "{stale:?}");
        assert!(!exists(path), "{stale:?}");
    }
}

// status

#[test]
fn status_reports_held_stale_absent_and_unknown() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let status = |path: &str| say(&["status", path]);
    assert_eq!(status(path), said(3, "", line(path, "no such file")));
    assert_eq!(status(scratch.path("no/directory")).end, End::Exit(3));

    let mut holder = hold_with(&["-x"], path);
    assert_eq!(status(path), said(0, format!("{}\n", holder.pid()), ""));
    holder.kill();
    let left = line(path, format_args!("not locked; left behind by process {}", holder.pid()));
    assert_eq!(status(path), said(1, "", left));
    let next = hold_with(&["-x"], path);
    assert_eq!(status(path), said(0, format!("{}\n", next.pid()), ""));
    drop(next);

    fs::write(path, "").unwrap();
    assert_eq!(status(path), said(1, "", line(path, "not locked")));
    assert!(exists(path), "status has removed it");

    let (link, directory) = (scratch.path("link"), scratch.directory.to_str().unwrap());
    symlink(path, link).unwrap();
    for odd in [link, directory] {
        assert_eq!(status(odd), said(4, "", line(odd, "not a regular file with one link")));
    }
}

#[test]
fn status_of_a_name_without_a_claim_names_the_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut holder = hold(path);
    fs::write(path, "").unwrap();
    // The file lost its claim, and the kernel still shows the holder.
    assert_eq!(say(&["status", path]), said(0, format!("{}\n", holder.pid()), ""));
    assert!(holder.lives());
}

/// busybox start-stop-daemon -m writes the PID of the loser into the file.
#[test]
fn a_holder_whose_claim_was_overwritten_is_named_and_stopped() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut holder = hold_against_term(path);
    fs::write(path, "1\n").unwrap();
    let held = format!("already locked by process {}", holder.pid());
    assert_eq!(say(&["status", path]), said(0, format!("{}\n", holder.pid()), ""));
    assert_eq!(say(&["run", path, "true"]), said(75, "", line(path, &held)));
    assert_eq!(say(&["wait", "-t", "0", path]), said(75, "", line(path, &held)));
    assert_eq!(say(&["stop", "-t", "0", path]), said(75, "", line(path, &held)));
    assert_eq!(say(&["stop", "-k", "-t", "0.1", path]), said(0, "", ""));
    assert_eq!(holder.wait(), End::Signal(libc::SIGKILL));
}

#[test]
fn status_of_an_unreadable_file_is_unknown() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = pidflock();
    command.args(["status", path]);
    if is_root() {
        // After exec root has no CAP_DAC_OVERRIDE (1) and CAP_DAC_READ_SEARCH (2), and can read only what others may read.
        let drop_capabilities = || {
            let dropped =
                (1..=2).all(|capability| unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0 });
            if dropped { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        unsafe { command.pre_exec(drop_capabilities) };
    }
    if command.output().is_err() {
        return skip("this root may not drop its capabilities");
    }
    assert_eq!(finish(&mut command), said(4, "", line(path, "openat: permission denied")));
}

// signal, stop, wait

#[test]
fn signal_reaches_the_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for (options, number) in [
        (&[][..], libc::SIGTERM),
        (&["-s", "HUP"], libc::SIGHUP),
        (&["-s", "SIGHUP"], libc::SIGHUP),
        (&["-s", "1"], libc::SIGHUP),
        (&["-sUSR1"], libc::SIGUSR1),
        (&["-s", "HUP", "-s", "KILL"], libc::SIGKILL),
    ] {
        let mut holder = hold_with(&["-x"], path);
        let arguments = [&["signal"], options, &[path]].concat();
        assert_eq!(say(&arguments), said(0, "", ""), "{options:?}");
        assert_eq!(holder.wait(), End::Signal(number), "{options:?}");
    }
    let mut holder = hold_with(&["-x"], path);
    assert_eq!(say(&["signal", "-s", "0", path]), said(0, "", ""));
    assert!(holder.lives());
    holder.kill();
    assert_eq!(say(&["signal", "-s", "0", path]), said(71, "", line(path, "not locked")));
    assert_eq!(say(&["signal", scratch.path("absent")]), said(71, "", line(scratch.path("absent"), "not locked")));
}

#[test]
fn stop_ends_the_holder_and_waits_for_the_lock() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for (options, number) in [
        (&[][..], libc::SIGTERM),
        (&["-s", "HUP"], libc::SIGHUP),
        (&["-ks9"], libc::SIGKILL),
        (&["-kt5"], libc::SIGTERM),
    ] {
        let mut holder = hold(path);
        assert_eq!(say(&[&["stop"], options, &[path]].concat()), said(0, "", ""), "{options:?}");
        assert!(!is_locked(path), "{options:?}");
        assert_eq!(holder.wait(), End::Signal(number), "{options:?}");
    }
    until(|| !exists(path));
    drop(hold_with(&["-x"], path));
    assert_eq!(say(&["stop", path]), said(0, "", "")); // free
    assert!(exists(path));
    assert_eq!(say(&["stop", scratch.path("absent")]), said(0, "", ""));
}

#[test]
fn stop_gives_up_on_a_holder_that_stays_unless_k_is_given() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut holder = hold_against_term(path);
    let held = line(path, format_args!("already locked by process {}", holder.pid()));
    assert_eq!(say(&["stop", "-t", "0.2", path]), said(75, "", held));
    assert!(holder.lives());
    assert_eq!(say(&["stop", "-k", "-t", "0.2", path]), said(0, "", ""));
    assert!(!is_locked(path));
    assert_eq!(holder.wait(), End::Signal(libc::SIGKILL));
}

#[test]
fn stop_fails_while_a_child_of_the_dead_holder_keeps_the_lock() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for options in [&["-t", "0.2"][..], &["-k", "-t", "0.2"]] {
        let child = "sleep 60 < /dev/null > /dev/null 2>&1 & echo $!; exec sleep 60";
        let mut command = run(&[], path);
        command.args(["sh", "-c", child]).stdin(Stdio::null()).stdout(Stdio::piped());
        unsafe { command.pre_exec(|| signals(libc::SIG_DFL, &[libc::SIGTERM])) };
        let mut holder = Running(command.spawn().unwrap());
        let mut number = String::new();
        io::BufReader::new(holder.0.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let held = format!("locked by process {}, which shares the lock", number.trim());
        let already = line(path, format!("already {held}"));
        assert_eq!(say(&[&["stop"], options, &[path]].concat()), said(75, "", already), "{options:?}");
        assert_eq!(holder.wait(), End::Signal(libc::SIGTERM));
        assert!(is_locked(path));
        assert_eq!(say(&["status", path]), said(0, "", line(path, held)));
        assert_eq!(unsafe { libc::kill(number.trim().parse().unwrap(), libc::SIGKILL) }, 0);
        assert_eq!(say(&["wait", "-t", "10", path]), said(0, "", ""));
    }
}

#[test]
fn stop_ends_a_stopped_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut holder = hold(path);
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", holder.pid())).unwrap().contains(") T ");
    assert_eq!(unsafe { libc::kill(holder.pid(), libc::SIGSTOP) }, 0);
    until(stopped);
    // `signal` sends only the requested signal. Signal 0 only checks.
    assert_eq!(say(&["signal", "-s", "HUP", path]), said(0, "", ""));
    let held = line(path, format!("already locked by process {}", holder.pid()));
    assert_eq!(say(&["stop", "-s", "0", "-t", "0", path]), said(75, "", held));
    assert!(stopped());
    assert_eq!(say(&["stop", "-t", "10", path]), said(0, "", ""));
    assert!(matches!(holder.wait(), End::Signal(libc::SIGHUP | libc::SIGTERM)));
}

/// nginx leaves its workers like this when its master is killed.
#[test]
fn status_names_the_workers_that_have_survived_their_master() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for count in [2, 3, 10] {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let master = fork(|| {
            let _lock = PidLock::acquire(path).unwrap();
            for _ in 0..count {
                let worker = fork(|| (ready.send(unsafe { libc::getpid() }), end.receive_within(-1), 0).2);
                std::mem::forget(worker);
            }
            loop {
                unsafe { libc::pause() };
            }
        });
        let mut workers: Vec<i32> = (0..count).map(|_| ready.receive()).collect();
        workers.sort_unstable();
        assert_eq!(say(&["status", path]), said(0, format!("{}\n", master.pid), ""));
        master.kill_and_wait();
        let words: Vec<String> = workers.iter().map(i32::to_string).collect();
        let list = match &words[..] {
            [first @ .., last] if first.len() < 8 => format!("{} and {last}", first.join(", ")),
            _ => format!("{} and others", words[..8].join(", ")),
        };
        let held = format!("locked by processes {list}, which share the lock");
        assert_eq!(say(&["status", path]), said(0, "", line(path, &held)));
        assert_eq!(say(&["run", path, "true"]), said(75, "", line(path, format!("already {held}"))));
        workers.iter().for_each(|_| end.send(0));
        assert_eq!(say(&["wait", "-t", "10", path]), said(0, "", ""));
    }
}

/// A child that holds a name, and reports each TERM instead of ending.
fn reports_term(path: &str, terminated: &Pipe) -> Child {
    let ready = Pipe::new();
    let child = fork(|| {
        let (mut set, mut number): (libc::sigset_t, libc::c_int) = unsafe { std::mem::zeroed() };
        unsafe { libc::sigaddset(&raw mut set, libc::SIGTERM) };
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        let _lock = PidLock::acquire(path).unwrap();
        ready.send(0);
        loop {
            unsafe { libc::sigwait(&raw const set, &raw mut number) };
            terminated.send(number);
        }
    });
    ready.receive();
    child
}

/// Between the two signals another holder gets the name: a rename replaces the file of the first.
#[test]
fn stop_kills_the_holder_that_it_has_terminated_or_nobody() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("pid"), scratch.path("other"));
    let terminated = Pipe::new();
    let first = reports_term(path, &terminated);
    let second = reports_term(other, &terminated);
    let mut command = pidflock();
    command.args(["stop", "-k", "-t", "2", path]).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut stop = Running(command.spawn().unwrap());
    assert_eq!(terminated.receive(), libc::SIGTERM);
    fs::rename(other, path).unwrap();
    assert_eq!(stop.wait(), End::Exit(71));
    let mut err = String::new();
    stop.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, line(path, "replaced by another file"));
    assert_eq!(terminated.receive_within(0), None);
    for holder in [first, second] {
        holder.kill(libc::SIGTERM);
        assert_eq!(terminated.receive(), libc::SIGTERM, "it was killed");
    }
}

#[test]
fn wait_ends_when_nobody_holds_the_name() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut holder = hold(path);
    let held = line(path, format_args!("already locked by process {}", holder.pid()));
    let started = Instant::now();
    assert_eq!(say(&["wait", "-t", "0.2", path]), said(75, "", held));
    assert!(started.elapsed() >= Duration::from_millis(200));
    for options in [&["-t", "60"][..], &[]] {
        let mut waiting = Running(pidflock().arg("wait").args(options).arg(path).spawn().unwrap());
        until(|| waiting.descriptors().iter().any(|(_, file)| file == path));
        assert!(waiting.lives());
        holder.kill();
        assert_eq!(waiting.wait(), End::Exit(0), "{options:?}");
        holder = hold(path);
    }
    drop(holder);
    drop(hold_with(&["-xw"], path));
    assert_eq!(say(&["wait", "-t", "0.2", path]), said(0, "", ""));
    assert!(exists(path));
    assert_eq!(say(&["wait", scratch.path("absent")]), said(0, "", ""));
}

// Messages.

#[test]
fn wrong_usage_is_one_line_that_names_the_word_and_64() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let table: &[(&[&str], &str)] = &[
        (&[], "missing subcommand"),
        (&[""], "missing subcommand"),
        (&["fly"], "unknown subcommand: fly"),
        (&["-x"], "unknown subcommand: -x"),
        (&["fl\ny", path], "unknown subcommand: fl?y"),
        (&["run"], "missing PIDFILE"),
        (&["run", "--"], "missing PIDFILE"),
        (&["status"], "missing PIDFILE"),
        (&["signal", "-s", "HUP"], "missing PIDFILE"),
        (&["stop", "-k"], "missing PIDFILE"),
        (&["wait"], "missing PIDFILE"),
        (&["run", path], "missing COMMAND"),
        (&["run", "-w", "--", path], "missing COMMAND"),
        (&["run", "-q", path, "true"], "unknown option: q"),
        (&["run", "-wq", path, "true"], "unknown option: q"),
        (&["run", "-k", path, "true"], "unknown option: k"),
        (&["status", "-t", "1", path], "unknown option: t"),
        (&["signal", "-k", path], "unknown option: k"),
        (&["stop", "-w", path], "unknown option: w"),
        (&["wait", "-s", "1", path], "unknown option: s"),
        (&["run", "-t"], "option requires a value: t"),
        (&["run", "-wm"], "option requires a value: m"),
        (&["signal", "-s"], "option requires a value: s"),
        (&["stop", "-kt"], "option requires a value: t"),
        (&["status", path, "more"], "unexpected argument: more"),
        (&["signal", path, "HUP"], "unexpected argument: HUP"),
        (&["stop", path, "-k"], "unexpected argument: -k"),
        (&["wait", path, "-h"], "unexpected argument: -h"),
        (&["run", "-t", "", path, "true"], "invalid number of seconds"),
        (&["run", "-t", "-1", path, "true"], "invalid number of seconds: -1"),
        (&["run", "-t", "x", path, "true"], "invalid number of seconds: x"),
        (&["stop", "-t", "1s", path], "invalid number of seconds: 1s"),
        (&["stop", "-t", ".", path], "invalid number of seconds: ."),
        (&["stop", "-t", "..5", path], "invalid number of seconds: ..5"),
        (&["run", "-E", "", path, "true"], "invalid exit code"),
        (&["run", "-E", "256", path, "true"], "invalid exit code: 256"),
        (&["run", "-E", "-1", path, "true"], "invalid exit code: -1"),
        (&["wait", "-t", "1.2.3", path], "invalid number of seconds: 1.2.3"),
        (&["wait", "-t", "1e3", path], "invalid number of seconds: 1e3"),
        (&["wait", "-t", "18446744073709551616", path], "invalid number of seconds: 18446744073709551616"),
        (&["run", "-m", "8", path, "true"], "invalid mode: 8"),
        (&["run", "-m", "1000", path, "true"], "invalid mode: 1000"),
        (&["run", "-m", "", path, "true"], "invalid mode"),
        (&["run", "-m", "-644", path, "true"], "invalid mode: -644"),
        (&["run", "-m", "u+r", path, "true"], "invalid mode: u+r"),
        (&["signal", "-s", "NOPE", path], "invalid signal: NOPE"),
        (&["signal", "-s", "", path], "invalid signal"),
        (&["signal", "-s", "-1", path], "invalid signal: -1"),
        (&["stop", "-s", "9999", path], "invalid signal: 9999"),
        (&["stop", "-s", "SIG", path], "invalid signal: SIG"),
    ];
    for (arguments, reason) in table {
        let expected = said(64, "", format!("pidflock: {reason}; try 'pidflock --help'\n"));
        assert_eq!(say(arguments), expected, "{arguments:?}");
        assert!(!exists(path), "{arguments:?}");
    }
}

#[test]
fn help_fits_a_terminal_and_every_subcommand_has_it() {
    let _scratch = Scratch::new();
    let help = say(&["--help"]);
    assert_eq!((help.end, &*help.err), (End::Exit(0), ""));
    assert!(help.out.lines().count() < 24);
    for line in help.out.lines() {
        assert!(line.chars().count() < 80, "{line}");
    }
    for subcommand in ["run", "status", "signal", "stop", "wait"] {
        assert!(help.out.contains(&format!("pidflock {subcommand} ")), "{subcommand}");
        for option in ["-h", "--help"] {
            assert_eq!(say(&[subcommand, option]), help, "{subcommand} {option}");
        }
    }
    assert_eq!(say(&["-h"]), help);
    assert_eq!(say(&["run", "-w", "-h", "pid"]), help);
    for option in ["-V", "--version"] {
        assert_eq!(say(&[option]), said(0, concat!("pidflock ", env!("CARGO_PKG_VERSION"), "\n"), ""));
    }
}

#[test]
fn an_invalid_path_is_a_usage_error_and_other_errors_are_system_errors() {
    let scratch = Scratch::new();
    let (plain, link) = (scratch.path("plain"), scratch.path("link"));
    fs::write(plain, "").unwrap();
    symlink(plain, link).unwrap();
    let long = scratch.path(&"x".repeat(256));
    let below = scratch.path("plain/pid");
    let table = [
        ("", 64, "not the path of a file"),
        (".", 64, "not the path of a file"),
        ("a/", 64, "not the path of a file"),
        (long, 64, "not the path of a file"),
        (link, 71, "not a regular file with one link"),
        (below, 71, "openat: not a directory"),
    ];
    for (path, code, reason) in table {
        for (arguments, code) in [
            (&["run", path, "true"][..], code),
            (&["signal", path], code),
            (&["stop", path], code),
            (&["wait", path], code),
            (&["status", path], 4), // "unknown" in the LSB
        ] {
            assert_eq!(say(arguments), said(code, "", line(path, reason)), "{arguments:?}");
        }
    }
}

#[test]
fn a_path_with_control_characters_still_gives_one_line() {
    let scratch = Scratch::new();
    let path = scratch.path("a\nb\x1b[1m\x7f\t");
    let shown = path.replace(|character: char| character.is_ascii_control(), "?");
    assert_eq!(say(&["status", path]), said(3, "", line(&shown, "no such file")));
    let holder = hold(path);
    let refused = line(&shown, format_args!("already locked by process {}", holder.pid()));
    assert_eq!(finish(run(&[], path).arg("true")), said(75, "", refused));
    drop(holder);
    assert_eq!(finish(run(&[], path).arg("/no\n")), said(127, "", line("/no?", "exec: no such file or directory")));
}

/// C1, as bytes and in UTF-8. Some terminals read U+009B as ESC [.
#[test]
fn a_path_with_upper_control_characters_is_shown_without_them() {
    let scratch = Scratch::new();
    let directory = scratch.directory.to_str().unwrap();
    let pairs: Vec<u8> = (0x80..=0x9f).flat_map(|byte| [0xc2, byte, b'.']).collect();
    let single: Vec<u8> = (0x80..=0x9f).flat_map(|byte| [byte, b'.']).collect();
    let plain = "é ß Û Ü ÿ \u{a0} 日本 ‘’ 😀".as_bytes();
    for (name, shown) in [
        (&*pairs, &*b"?.".repeat(32)),
        (&single, &b"?.".repeat(32)),
        (b"\x9b31m", b"?31m"),
        (b"\xc2\x9b31m", b"?31m"),
        (b"a\x80", b"a?"),
        (b"a\xc2\x80", b"a?"),
        (plain, plain),
    ] {
        let path = [directory.as_bytes(), b"/", name].concat();
        let mut command = pidflock();
        command.arg("status").arg(OsStr::from_bytes(&path)).stdin(Stdio::null());
        let said = command.output().unwrap().stderr;
        let expected = [b"pidflock: ", directory.as_bytes(), b"/", shown, b": no such file\n"].concat();
        let [said, expected] = [said, expected].map(|bytes| bytes.escape_ascii().to_string());
        assert_eq!(said, expected);
    }
    // A truncated character leaves no byte that a terminal could read as a control character.
    for cut in [&b"\xe6\x9b."[..], b"\xf0\x9f\x98.", b"\xc2", b"\xe6\xc2\x9b."] {
        let said = pidflock().arg(OsStr::from_bytes(cut)).stdin(Stdio::null()).output().unwrap().stderr;
        let controls = said.utf8_chunks().any(|chunk| {
            chunk.valid().chars().any(|character| character.is_control() && character != '\n')
                || chunk.invalid().iter().any(|byte| (0x80..=0x9f).contains(byte))
        });
        assert!(!controls, "{}", said.escape_ascii());
    }
}

/// A word may be far longer than any path. The reason after it is more important than its end.
#[test]
fn a_name_of_any_length_is_followed_by_the_reason() {
    for length in [4095, 4096, 4330, 4352, 5000, 100_000] {
        let (name, shown) = ("x".repeat(length), "x".repeat(4095));
        let no_path = line(&shown, "not the path of a file");
        assert_eq!(say(&["run", &name, "true"]), said(64, "", &*no_path), "{length}");
        assert_eq!(say(&["status", &name]), said(4, "", &*no_path), "{length}");
        let no_time = format!("pidflock: invalid number of seconds: {shown}; try 'pidflock --help'\n");
        assert_eq!(say(&["wait", "-t", &name]), said(64, "", no_time), "{length}");
        let scratch = Scratch::new();
        let no_command = line(&shown, "exec: file name too long");
        assert_eq!(say(&["run", scratch.path("pid"), &name]), said(126, "", no_command), "{length}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let _holder = hold(path);
    for (arguments, code, about) in [
        (&["status", path][..], 4, path),
        (&["--help"], 71, "standard output"),
        (&["--version"], 71, "standard output"),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut child = Running(pidflock().args(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap());
        let mut err = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, line(about, "write: no space left on device"), "{arguments:?}");
        assert_eq!(child.wait(), End::Exit(code), "{arguments:?}");
    }
}

#[test]
fn a_waiter_at_a_terminal_sees_which_process_it_waits_for() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for arguments in [&["run", "-w", path, "true"][..], &["run", "-t", "60", path, "true"], &["wait", path]] {
        let mut holder = hold(path);
        let expected = line(path, format_args!("waiting for process {}", holder.pid()));
        let (mut person, program) = terminal();
        let mut waiting = Running(pidflock().args(arguments).stderr(program).spawn().unwrap());
        let mut told = vec![0; expected.len() + 1]; // a terminal prints two bytes for the newline
        person.read_exact(&mut told).unwrap();
        assert_eq!(String::from_utf8(told).unwrap().replace('\r', ""), expected, "{arguments:?}");
        assert!(waiting.lives());
        holder.kill();
        assert_eq!(waiting.wait(), End::Exit(0), "{arguments:?}");
    }
}
