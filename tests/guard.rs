//! The guard of `pidflock run`: the name is held until COMMAND ends, whatever COMMAND closes, and no longer.
#![cfg(target_os = "linux")]

mod support;

use pidflock::{Error, FromRawFd, OwnedFd, PidLock, State, probe};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::IntoRawFd,
        unix::{
            fs::PermissionsExt,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::Path,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant, SystemTime},
};
use support::*;

/// A program in a separate process group. Killed and waited for on drop.
struct Running(process::Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).process_group(0).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn wait(&mut self) -> End {
        let status = self.0.wait().unwrap();
        status.code().map_or_else(|| End::Signal(status.signal().unwrap()), End::Exit)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within ten seconds");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A flag that is raised when this is dropped, even by a panic.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn run(options: &[&str], path: &str) -> Command {
    let mut command = pidflock();
    command.arg("run").args(options).arg(path);
    command
}

/// Whether a process has become this program.
fn is(pid: i32, program: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == program)
}

/// Starts a COMMAND that sleeps, and returns once it sleeps.
fn sleeping(options: &[&str], path: &str) -> Running {
    let running = Running::start(run(options, path).args(["sleep", "60"]));
    until(|| is(running.pid(), "sleep"));
    running
}

/// Starts a COMMAND that closes all inherited descriptors, as daemons do, and then sleeps.
fn closing(options: &[&str], path: &str) -> Running {
    let close = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec sleep 60";
    let running = Running::start(run(options, path).args(["sh", "-c", close]));
    until(|| is(running.pid(), "sleep"));
    let open = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap();
    assert!(open.flatten().all(|entry| !fs::read_link(entry.path()).is_ok_and(|file| file == Path::new(path))));
    running
}

/// The guards that have this file open.
fn guards(path: &str) -> Vec<i32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid| is(*pid, "pidflock-guard") && files(*pid).iter().any(|(_, file)| file.starts_with(path)))
        .collect()
}

fn guard(path: &str) -> i32 {
    let guards = guards(path);
    assert_eq!(guards.len(), 1, "{guards:?}");
    guards[0]
}

/// The descriptors of a process, and what they lead to.
fn files(pid: i32) -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return vec![] };
    let file = |entry: fs::DirEntry| {
        Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
    };
    let mut files: Vec<_> = entries.flatten().filter_map(file).collect();
    files.sort();
    files
}

/// A field of /proc/PID/stat after the name: 1 is the parent, 2 the group, 3 the session, 4 the terminal.
fn stat(pid: i32, field: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(field).unwrap().parse().unwrap()
}

/// The code and the message of a command that ends.
fn says(command: &mut Command) -> (i32, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout),
    )
}

fn say(arguments: &[&str]) -> (i32, String) {
    says(pidflock().args(arguments))
}

// Properties of a guard.

#[test]
fn a_guard_is_not_a_child_of_command_and_has_a_separate_session() {
    let scratch = Scratch::new();
    for options in [&[][..], &["-o"]] {
        let path = scratch.path("pid");
        let command = sleeping(options, path);
        let guard = guard(path);
        assert_ne!(stat(guard, 1), command.pid());
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", command.pid())).unwrap();
        assert_eq!(children, "");
        for field in [2, 3] {
            assert_ne!(stat(guard, field), stat(command.pid(), field));
        }
        assert_ne!(stat(guard, 3), guard, "the leader of a session could get a terminal");
        assert_eq!(stat(guard, 4), 0, "a terminal");
        drop(command);
        until(|| guards(path).is_empty());
    }
}

#[test]
fn a_guard_has_inherited_nothing() {
    let scratch = Scratch::new();
    let (path, elsewhere) = (scratch.path("pid"), scratch.path("elsewhere"));
    fs::create_dir(elsewhere).unwrap();
    let mut command = run(&[], path);
    let (mut read, write) = io::pipe().unwrap();
    let number = write.into_raw_fd();
    unsafe {
        command.pre_exec(move || {
            for high in [3, 5, 9, 100, 1000] {
                assert_eq!(libc::dup2(number, high), high);
            }
            Ok(())
        })
    };
    let close =
        "exec 3>&- 5>&- 9>&- >&- 2>&-; exec python3 -c 'import os, time; os.closerange(3, 2000); time.sleep(60)'";
    command.args(["sh", "-c", close]).current_dir(elsewhere).stdout(Stdio::piped());
    let mut running = Running::start(&mut command);
    unsafe { libc::close(number) };
    // Both end, because no process has them open any more.
    let mut text = String::new();
    assert_eq!(running.0.stdout.take().unwrap().read_to_string(&mut text).unwrap(), 0);
    assert_eq!(read.read_to_string(&mut text).unwrap(), 0);

    let guard = guard(path);
    let directory = scratch.directory.to_str().unwrap();
    let files: Vec<String> = files(guard).into_iter().map(|(_, file)| file).collect();
    let process = format!("/proc/{}", running.pid());
    let watched = if cfg!(pidflock_no_pidfd) { &*process } else { "anon_inode:[pidfd]" };
    assert_eq!(files, ["/dev/null", "/dev/null", "/dev/null", directory, path, watched]);
    assert_eq!(fs::read_link(format!("/proc/{guard}/cwd")).unwrap(), Path::new("/"));
}

#[test]
fn signals_to_everybody_end_command_and_not_its_guard() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = Running::start(run(&[], path).args(["sh", "-c", "trap '' TERM HUP INT; echo; exec sleep 60"]));
    until(|| is(command.pid(), "sleep"));
    let guard = guard(path);
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal)) {
        assert_eq!(unsafe { libc::kill(guard, signal) }, 0, "{signal}");
    }
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        assert_eq!(unsafe { libc::kill(-command.pid(), signal) }, 0);
    }
    thread::sleep(Duration::from_millis(20));
    assert_eq!(guards(path), [guard]);
    assert!(is_locked(path));
    // Not SIGQUIT, which a background job of a shell ignores.
    assert_eq!(unsafe { libc::kill(-command.pid(), libc::SIGUSR1) }, 0);
    assert_eq!(command.wait(), End::Signal(libc::SIGUSR1));
    until(|| !exists(path) && guards(path).is_empty());
}

#[test]
fn killing_a_guard_does_not_end_command() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = sleeping(&[], path);
    assert_eq!(unsafe { libc::kill(guard(path), libc::SIGKILL) }, 0);
    until(|| guards(path).is_empty());
    assert_eq!(say(&["status", path]), (0, format!("{}\n", command.pid())));
    assert_eq!(say(&["stop", path]), (0, String::new()));
    assert_eq!(command.wait(), End::Signal(libc::SIGTERM));
    assert!(exists(path), "who has removed it?");
    assert_eq!(says(run(&[], path).arg("true")), (0, String::new()));
    until(|| !exists(path));
}

// What a guard does for COMMAND.

#[test]
fn a_command_that_closes_its_descriptors_is_held_named_signalled_and_stopped() {
    let scratch = Scratch::new();
    for options in [&[][..], &["-o"]] {
        let path = scratch.path("pid");
        let mut command = closing(options, path);
        let pid = command.pid();
        assert!(is_locked(path));
        assert_eq!(say(&["status", path]), (0, format!("{pid}\n")));
        let refused = format!("pidflock: {path}: already locked by process {pid}\n");
        assert_eq!(says(run(&[], path).arg("true")), (75, refused));
        assert_eq!(say(&["signal", "-s", "0", path]), (0, String::new()));
        assert_eq!(say(&["signal", "-s", "CONT", path]), (0, String::new()));
        assert_eq!(say(&["stop", path]), (0, String::new()));
        assert_eq!(command.wait(), End::Signal(libc::SIGTERM));
        until(|| !exists(path) && guards(path).is_empty());
    }
}

#[test]
fn a_command_that_ends_or_is_killed_leaves_no_file_and_the_name_is_free() {
    let scratch = Scratch::new();
    for options in [&[][..], &["-o"]] {
        let path = scratch.path("pid");
        for turn in 0..50 {
            let mut command = sleeping(options, path);
            command.0.kill().unwrap();
            command.wait();
            // At once.
            let (code, text) = says(run(options, path).args(["sh", "-c", "exit 7"]));
            assert_eq!((code, &*text), (7, ""), "{turn}");
        }
        until(|| !exists(path) && guards(path).is_empty());
    }
}

/// The guard has had no time to release.
#[test]
fn a_start_right_after_the_end_waits_for_the_guard_and_one_beside_a_holder_does_not() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = sleeping(&[], path);
    let start = Instant::now();
    assert_eq!(says(run(&[], path).arg("true")).0, 75);
    assert!(start.elapsed() < Duration::from_millis(500));
    let guard = guard(path);
    assert_eq!(unsafe { libc::kill(guard, libc::SIGSTOP) }, 0);
    command.0.kill().unwrap();
    command.wait();
    let mut next = Running::start(run(&[], path).arg("true"));
    thread::sleep(Duration::from_millis(300));
    assert!(next.0.try_wait().unwrap().is_none());
    assert_eq!(unsafe { libc::kill(guard, libc::SIGCONT) }, 0);
    assert_eq!(next.wait(), End::Exit(0));
    until(|| !exists(path) && guards(path).is_empty());
}

/// Waiters and probers of the name hold shared locks for an instant.
#[test]
fn probers_and_waiters_do_not_keep_a_guard_from_its_work() {
    let scratch = Scratch::in_memory();
    let path = scratch.path("pid");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    probe(path).unwrap();
                    thread::sleep(Duration::from_micros(200)); // without a pause they may leave the guard no time
                }
            });
        }
        let _when_this_ends = Raised(&done);
        for _ in 0..100 {
            assert_eq!(says(run(&["-w"], path).arg("true")), (0, String::new()));
            until(|| guards(path).is_empty() && !exists(path)); // it opens the file again after it closed its copy
        }
    });
}

#[test]
fn a_path_that_is_relative_is_found_from_everywhere() {
    let scratch = Scratch::new();
    for options in [&[][..], &["-o"]] {
        let mut command = run(options, "sub/pid");
        let mut running =
            Running::start(command.args(["sh", "-c", "cd /; exec sleep 60"]).current_dir(&scratch.directory));
        until(|| is(running.pid(), "sleep"));
        assert!(is_locked(scratch.path("sub/pid")));
        running.0.kill().unwrap();
        running.wait();
        until(|| !exists(scratch.path("sub/pid")));
    }
}

#[test]
fn a_guard_started_without_standard_streams_removes_the_file() {
    let scratch = Scratch::new();
    for options in [&[][..], &["-o"]] {
        let path = scratch.path("pid");
        let mut command = run(options, path);
        unsafe {
            command.pre_exec(|| {
                (0..3).for_each(|stream| assert_eq!(libc::close(stream), 0));
                Ok(())
            })
        };
        let running = Running::start(command.args(["sleep", "60"]));
        until(|| is(running.pid(), "sleep"));
        assert_eq!(guards(path).len(), 1);
        drop(running);
        until(|| !exists(path) && guards(path).is_empty());
    }
}

#[test]
fn a_child_that_outlives_command_keeps_the_name_unless_o_is_given() {
    let scratch = Scratch::new();
    for only in [false, true] {
        let path = scratch.path("pid");
        let background = "sleep 60 </dev/null >/dev/null 2>&1 & echo $!";
        let output = run(if only { &["-o"] } else { &[] }, path).args(["sh", "-c", background]).output().unwrap();
        let left: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        until(|| guards(path).is_empty());
        if only {
            assert!(!exists(path));
        } else {
            assert!(is_locked(path));
            assert_eq!(says(run(&[], path).arg("true")).0, 75);
        }
        assert_eq!(unsafe { libc::kill(left, libc::SIGKILL) }, 0);
        assert_eq!(says(run(&["-t10"], path).arg("true")).0, 0);
        until(|| !exists(path));
    }
}

#[test]
fn a_child_that_outlives_command_for_a_moment_leaves_no_file() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let background = "sleep .3 </dev/null >/dev/null 2>&1 &";
    assert_eq!(says(run(&[], path).args(["sh", "-c", background])), (0, String::new()));
    assert!(is_locked(path));
    until(|| !exists(path) && guards(path).is_empty());
}

/// Another process has the name by now, and its file claims the PID of COMMAND.
#[test]
fn a_guard_leaves_the_file_of_another_alone() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let command = sleeping(&[], path);
    let claim = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    let lock = PidLock::acquire(path).unwrap();
    fs::write(path, &claim).unwrap();
    let (pid, guard) = (command.pid(), guard(path));
    drop(command);
    until(|| !Path::new(&format!("/proc/{guard}")).exists() && !Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(lock.is_current(), Ok(true));
    assert_eq!(fs::read_to_string(path).unwrap(), claim);
    lock.disown();
}

#[test]
fn run_without_a_guard_only_execs() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let command = sleeping(&["-x"], path);
    assert!(is_locked(path));
    assert_eq!(guards(path), []);
    let pid = command.pid();
    drop(command);
    assert!(!is_locked(path));
    assert_eq!(fs::read_to_string(path).unwrap(), format!("{pid}\n"));
    // The last of the two options counts.
    let command = sleeping(&["-ox"], path);
    assert!(files(command.pid()).iter().any(|(_, file)| file == path));
    drop(command);
    let command = sleeping(&["-xo"], path);
    assert!(files(command.pid()).iter().all(|(_, file)| file != path));
    guard(path);
}

#[test]
fn a_command_that_has_lost_the_lock_is_reported_and_not_taken_for_stopped() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = closing(&["-x"], path);
    let alive = format!("pidflock: {path}: not locked; process {}, which it names, is alive\n", command.pid());
    assert_eq!(say(&["status", path]), (1, alive.clone()));
    assert_eq!(say(&["stop", path]), (71, alive.clone()));
    assert_eq!(say(&["stop", "-k", path]), (71, alive));
    assert!(command.0.try_wait().unwrap().is_none());
    command.0.kill().unwrap();
    command.wait();
    let left = format!("pidflock: {path}: not locked; left behind by process {}\n", command.pid());
    assert_eq!(say(&["status", path]), (1, left.clone()));
    assert_eq!(say(&["stop", path]), (0, String::new()));
    // A PID that was reused, and PID 1, which every container has.
    let stranger = sleeping(&[], scratch.path("other"));
    for (number, what) in [(stranger.pid(), "a stranger"), (1, "process 1")] {
        fs::write(path, format!("{number}\n")).unwrap();
        let ago = if number == 1 { Duration::ZERO } else { Duration::from_secs(60) };
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - ago).unwrap();
        let left = format!("pidflock: {path}: not locked; left behind by process {number}\n");
        assert_eq!(say(&["status", path]), (1, left), "{what}");
        assert_eq!(say(&["stop", path]), (0, String::new()), "{what}");
    }
}

// When there can be no guard.

#[test]
fn a_command_that_cannot_be_run_leaves_no_guard() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for options in [&[][..], &["-o"], &["-x"]] {
        assert_eq!(says(run(options, path).arg("/no/such/command")).0, 127);
        assert!(!exists(path));
        until(|| guards(path).is_empty());
    }
}

/// The limit of processes leaves no room for the process in between, or for the guard.
#[test]
fn without_room_for_a_guard_command_is_not_started() {
    let scratch = Scratch::new();
    if !is_root() {
        return skip("only root can become a user that has no process yet");
    }
    fs::set_permissions(&scratch.directory, fs::Permissions::from_mode(0o777)).unwrap();
    let (path, trace) = (scratch.path("pid"), scratch.path("trace"));
    for (most, code) in [(1, 71), (2, 71), (3, 0)] {
        let mut command = run(&[], path);
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        unsafe {
            command.pre_exec(move || {
                // The processes of the last round count until they have ended.
                assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
                assert_eq!(libc::setresuid(54321, 54321, 54321), 0);
                Ok(())
            })
        };
        let (ended, text) = says(command.args(["touch", trace]));
        assert_eq!(ended, code, "{most}: {text}");
        assert_eq!(text.starts_with(&format!("pidflock: {path}: fork: ")), code == 71, "{text}");
        assert_eq!(exists(trace), code == 0);
        until(|| !exists(path) && guards(path).is_empty());
    }
}

#[test]
fn run_works_under_a_parent_that_ignores_its_children_and_command_inherits_that() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for (action, ignored) in [(libc::SIG_IGN, true), (libc::SIG_DFL, false)] {
        for blocked in [false, true] {
            let mut command = run(&[], path);
            unsafe {
                command.pre_exec(move || {
                    libc::signal(libc::SIGCHLD, action);
                    let mut set: libc::sigset_t = std::mem::zeroed();
                    libc::sigaddset(&raw mut set, libc::SIGCHLD);
                    let how = if blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
                    libc::sigprocmask(how, &raw const set, std::ptr::null_mut());
                    Ok(())
                })
            };
            let running = Running::start(command.args(["sleep", "60"]));
            until(|| is(running.pid(), "sleep"));
            let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
            let has = |field: &str| {
                let mask = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
                u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGCHLD - 1) != 0
            };
            assert_eq!((has("SigIgn:"), has("SigBlk:"), has("SigPnd:")), (ignored, blocked, false));
            assert_eq!(guards(path).len(), 1);
            drop(running);
            until(|| !exists(path));
        }
    }
}

/// From now on these calls fail with ENOSYS.
fn without(calls: &[i64]) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *call as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // Root needs no no_new_privs, and without it a set-user-ID program still works.
    assert!(is_root() || unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
}

#[test]
fn on_an_old_kernel_the_guard_polls_and_inherits_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for options in [&[][..], &["-o"]] {
        let mut command = run(options, path);
        unsafe {
            command.pre_exec(|| {
                assert_eq!(libc::dup2(0, 700), 700);
                without(&[libc::SYS_pidfd_open, libc::SYS_close_range]);
                Ok(())
            })
        };
        let mut running = Running::start(command.args(["sleep", "60"]));
        until(|| is(running.pid(), "sleep"));
        let guard = guard(path);
        let leads_to: Vec<String> = files(guard).into_iter().map(|(_, file)| file).collect();
        let directory = scratch.directory.to_str().unwrap();
        let process = format!("/proc/{}", running.pid());
        assert_eq!(leads_to, ["/dev/null", "/dev/null", "/dev/null", directory, path, &process]);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(guards(path), [guard]);
        running.0.kill().unwrap();
        // It is a zombie: nobody has waited for it yet.
        until(|| !exists(path) && guards(path).is_empty());
        running.wait();
    }
}

/// Without pidfds, and with a COMMAND that became another user's and is hidden, the guard must not see it as ended.
#[test]
fn a_hidden_command_counts_as_alive() {
    let scratch = Scratch::new();
    fs::set_permissions(&scratch.directory, fs::Permissions::from_mode(0o777)).unwrap();
    let (path, sleep) = (scratch.path("pid"), scratch.path("sleep"));
    let ended = container(|| {
        let proc = c"proc".as_ptr();
        assert_eq!(unsafe { libc::mount(proc, c"/proc".as_ptr(), proc, 0, c"hidepid=2".as_ptr().cast()) }, 0);
        fs::copy("/bin/sleep", sleep).unwrap();
        fs::set_permissions(sleep, fs::Permissions::from_mode(0o4755)).unwrap();
        let mut command = run(&["-o"], path);
        unsafe {
            command.pre_exec(|| {
                without(&[libc::SYS_pidfd_open]);
                // hidepid hides nothing from root's group.
                assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                assert_eq!(libc::setresgid(54321, 54321, 54321), 0);
                assert_eq!(libc::setresuid(54321, 54321, 54321), 0);
                Ok(())
            })
        };
        let mut running = Running::start(command.args([sleep, "60"]));
        until(|| is(running.pid(), "sleep"));
        if !fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap().contains("Uid:\t54321\t0\t") {
            return NOT_ALLOWED; // no file system here allows set-user-ID programs
        }
        thread::sleep(Duration::from_millis(300));
        assert!(is_locked(path), "its guard has released");
        running.0.kill().unwrap();
        running.wait();
        until(|| !exists(path));
        0
    });
    match ended.wait() {
        End::Exit(NOT_ALLOWED) => skip("a container needs root"),
        end => assert_eq!(end, End::Exit(0)),
    }
}

/// There the guard is always the child of COMMAND, and it ends with the container.
#[test]
fn as_the_first_process_of_a_container_command_is_held_and_the_kernel_releases() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let ended = container(|| {
        let mut command = run(&[], path);
        let close = format!(
            "exec 3>&- 4>&- 5>&- 6>&-; set -e; [ $$ = 1 ]; [ $({0} status {path}) = 1 ]; code=0; \
             {0} run {path} true 2>/dev/null || code=$?; [ $code = 75 ]; guard=$(cut -d' ' -f1 /proc/1/task/1/children); \
             [ $(cat /proc/$guard/comm) = pidflock-guard ]; exit 5",
            env!("CARGO_BIN_EXE_pidflock")
        );
        panic!("{}", command.args(["sh", "-c", &close]).exec());
    });
    match ended.wait() {
        End::Exit(NOT_ALLOWED) => return skip("a container needs root"),
        end => assert_eq!(end, End::Exit(5)),
    }
    until(|| !is_locked(path));
    assert!(exists(path), "the guard has outlived its container");
    assert_eq!(says(run(&[], path).arg("true")).0, 0);
}

// How COMMAND adopts the lock.

#[test]
fn command_gets_the_descriptor_and_its_process_in_its_environment() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("pid"), scratch.path("other"));
    let show =
        "echo $$; readlink /proc/$$/fd/$PIDFLOCK_FD; env | grep -c ^PIDFLOCK_[FP]; echo $PIDFLOCK_PID; echo $OTHER";
    for options in [&[][..], &["-x"]] {
        let mut command = run(options, path);
        command.args(["sh", "-c", show]).env("OTHER", "kept").env("PIDFLOCK_FD", "77").env("PIDFLOCK_PID", "1");
        let (code, text) = says(&mut command);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((code, &lines[1..]), (0, &[path, "2", lines[0], "kept"][..]));
    }
    // The innermost `run` counts, and one that passes no descriptor removes the variables.
    let pidflock = env!("CARGO_BIN_EXE_pidflock");
    let (_, text) = says(run(&[], other).args([pidflock, "run", path, "sh", "-c", show]));
    assert_eq!(text.lines().nth(1), Some(path));
    let (code, text) =
        says(run(&[], other).args([pidflock, "run", "-o", path, "sh", "-c", "env | grep ^PIDFLOCK_[FP]"]));
    assert_eq!((code, &*text), (1, ""));
    // All other variables are passed on, however many.
    let mut command = run(&[], path);
    command.args(["sh", "-c", "env | grep -c ^MANY_"]);
    (0..5000).for_each(|number| _ = command.env(format!("MANY_{number}"), "x"));
    assert_eq!(says(&mut command), (0, "5000\n".to_owned()));
}

/// The COMMAND of the next test.
#[test]
#[ignore = "another test runs this"]
fn is_a_program_that_acquires_the_name() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    let path = std::env::var("LOCK_OF_ITS_OWN").unwrap();
    let own = number("PIDFLOCK_PID").unwrap();
    assert_eq!(own, process::id() as i32);
    let refused = PidLock::acquire(&*path).err();
    assert_eq!(refused, Some(Error::AlreadyLocked { holder: pidflock::Pid::new(own) }));
    let fd = unsafe { OwnedFd::from_raw_fd(number("PIDFLOCK_FD").unwrap()) };
    let lock = PidLock::adopt(fd, &*path).unwrap();
    assert_eq!(probe(&*path), Ok(State::Held { holder: Some(lock.pid()) }));
    lock.release().unwrap();
    assert_eq!(probe(&*path), Ok(State::Absent));
}

#[test]
fn a_program_under_run_adopts_the_descriptor_of_its_environment() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = run(&[], path);
    command.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", "is_a_program_that_acquires_the_name"]);
    let (code, text) = says(command.env("LOCK_OF_ITS_OWN", path));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

// Strangers.

/// COMMAND has ended, and a child that it left behind keeps the lock. Another process gets its PID.
#[test]
fn a_stranger_with_the_number_of_command_is_not_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let ended = container(|| {
        let mut command = run(&[], path);
        let output = command.args(["sh", "-c", "sleep 60 </dev/null >/dev/null 2>&1 & echo $$"]).output().unwrap();
        let number: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        until(|| guards(path).is_empty());
        assert!(is_locked(path));
        // As if that were a minute ago.
        let ago = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(path).unwrap().set_modified(ago).unwrap();
        let stranger = fork_as(number, || {
            loop {
                unsafe { libc::pause() };
            }
        });
        for arguments in [&["signal", path][..], &["stop", "-t", "0", path], &["stop", "-k", "-t", "0", path]] {
            let (code, text) = say(arguments);
            assert_eq!(code, 75, "{text}");
        }
        assert_eq!(unsafe { libc::waitpid(stranger.pid, std::ptr::null_mut(), libc::WNOHANG) }, 0, "it has died");
        0
    });
    match ended.wait() {
        End::Exit(NOT_ALLOWED) => skip("a container needs root"),
        end => assert_eq!(end, End::Exit(0)),
    }
}

#[test]
fn a_guard_does_not_keep_a_pipe_open_that_its_writer_has_closed() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut command = run(&[], path);
    let mut running = command.args(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all(b"x").unwrap();
    drop(input); // ends the input of `cat`
    let mut text = String::new();
    running.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
    assert!(running.wait().unwrap().success());
}
