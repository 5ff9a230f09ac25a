//! Every message happens, and doc/messages.md has a row for it; every row of that page has happened.
//!
//! If a cause needs special hardware or rights, a seccomp filter makes the kernel return the error.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod support;

use pidflock::{BorrowedFd, Error, FromRawFd, Holder, OwnedFd, PidLock, Signal, Wait};
use std::{
    collections::BTreeSet,
    ffi::CString,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixStream,
        process::CommandExt,
    },
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use support::*;

const PAGE: &str = include_str!("../doc/messages.md");

// The page.

/// The rows of the tables below a heading: the first cell, which is code, and the second.
fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &'static str| {
        let (first, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((first, rest.split(" | ").next()?))
    };
    section.lines().filter_map(row).collect()
}

/// Whether a text fits a row, in which a word in capitals is a placeholder.
fn fits(row: &str, text: &str) -> bool {
    if row == "CALL: ANSWER" {
        return text.contains(": ");
    }
    let Some(word) = ["PID", "PIDS", "NUMBER", "WORD", "ANSWER"]
        .into_iter()
        .find(|word| row.split(' ').any(|part| part.trim_end_matches([';', ',']) == *word))
    else {
        return row == text;
    };
    let (before, after) = row.split_once(word).unwrap();
    let value = text.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    value.is_some_and(|value| match word {
        "PID" | "NUMBER" => value.parse::<u32>().is_ok(),
        _ => !value.is_empty(),
    })
}

fn numbers(text: &str) -> BTreeSet<i32> {
    text.split(|character: char| !character.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// A message that happened, and the exit code if it was the command's.
type Seen = (String, Option<i32>);

#[test]
fn every_message_happens_and_has_its_row_and_every_row_has_happened() {
    let scratch = Scratch::new();
    let seen: Vec<Seen> = [
        words_of_a_runline(&scratch),
        held(&scratch),
        not_held(&scratch),
        odd_files(&scratch),
        calls_that_fail_by_themselves(&scratch),
        calls_that_the_kernel_refuses(&scratch),
        calls_that_fail_the_second_time(&scratch),
    ]
    .concat();

    let mut messages = rows("Of the library and of the command");
    messages.extend(rows("Of the command alone"));
    messages.sort_by_key(|(row, _)| std::cmp::Reverse(row.len())); // the most specific one first
    let (calls, answers) = (rows("System calls: what was being done"), rows("Their answers"));
    let mut hit = BTreeSet::new();
    let mut codes = BTreeSet::new();
    for (text, code) in &seen {
        let row = messages
            .iter()
            .find(|(row, cell)| fits(row, text) && code.is_none_or(|code| numbers(cell).contains(&code)));
        let (row, _) = row.unwrap_or_else(|| panic!("no row for {text:?} with {code:?}"));
        hit.insert(*row);
        codes.extend(code.map(|code| (*row, code)));
        if row.ends_with(": ANSWER") || row.starts_with("exec: ") {
            let (call, answer) = text.split_once(": ").unwrap();
            let in_table =
                |table: &[(&'static str, _)], what| table.iter().map(|(row, _)| *row).find(|row| fits(row, what));
            hit.insert(in_table(&calls, call).unwrap_or_else(|| panic!("no row for the call of {text:?}")));
            hit.insert(in_table(&answers, answer).unwrap_or_else(|| panic!("no row for the answer of {text:?}")));
        }
    }
    for (row, _) in messages.iter().chain(&calls).chain(&answers) {
        // Each answer that a manual page allows has a name: tests/errors.rs.
        assert!(hit.contains(row) != (*row == "error NUMBER"), "{row:?} has not happened");
    }
    for (row, cell) in messages {
        for code in numbers(cell) {
            assert!(codes.contains(&(row, code)), "{row:?} has not happened with exit code {code}");
        }
    }
    eprintln!("messages: {} seen, {} rows", seen.len(), hit.len());
}

/// All output is made of these texts, so a new text cannot be forgotten.
#[test]
fn every_text_in_the_source_is_on_the_page() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut files = vec![format!("{source}/error.rs")];
    files.extend(
        fs::read_dir(format!("{source}/command")).unwrap().map(|entry| entry.unwrap().path().display().to_string()),
    );
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = text
            .split_once("const HELP")
            .map_or(text.clone(), |(before, rest)| before.to_owned() + rest.split_once("\";\n").unwrap().1);
        // A byte string is a word of the command line, not a text. A path is not a text either.
        let code = text.lines().filter(|line| {
            !line.trim_start().starts_with("//")
                && !line.trim_start().starts_with('#')
                && !line.contains("options(b\"")
                && !line.contains("c\"/")
        });
        for line in code {
            for literal in line.split('"').skip(1).step_by(2) {
                if literal.len() > 4 && literal.contains(char::is_lowercase) {
                    assert!(PAGE.contains(literal.trim_end_matches("\\n")), "{file}: {literal:?} is not on the page");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 60, "only {count} texts found: where are the others?");
}

// Ways to make things happen.

/// Runs the command to its end: the message after `pidflock: FILE: `, and the exit code.
fn command(file: &str, command: &mut Command) -> Seen {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    let text =
        line.strip_prefix("pidflock: ").and_then(|rest| rest.strip_suffix('\n')).unwrap_or_else(|| panic!("{line:?}"));
    let text = if file.is_empty() {
        text
    } else {
        text.strip_prefix(&format!("{file}: ")).unwrap_or_else(|| panic!("{text:?}"))
    };
    (text.to_owned(), Some(output.status.code().unwrap()))
}

fn say(file: &str, arguments: &[&str]) -> Seen {
    command(file, pidflock().args(arguments))
}

/// The library's error in a forked child, which can change its limits and filters.
fn library(work: impl FnOnce() -> Result<(), Error>) -> Seen {
    let (text, code) = (told(|tell| tell(work().unwrap_err())), None);
    (text, code)
}

/// Forks a child that reports errors, and returns them as lines.
fn told(work: impl FnOnce(&mut dyn FnMut(Error))) -> String {
    let (mut hear, mut tell) = UnixStream::pair().unwrap();
    let child = fork(|| {
        work(&mut |error| writeln!(tell, "{error}").unwrap());
        0
    });
    drop(tell);
    assert_eq!(child.wait(), End::Exit(0));
    let mut text = String::new();
    hear.read_to_string(&mut text).unwrap();
    text.trim_end().to_owned()
}

/// A holder that ignores SIGTERM. Killed on drop.
fn holder(path: &str) -> Child {
    let ready = Pipe::new();
    let child = fork(|| {
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let _lock = PidLock::acquire(path).unwrap();
        ready.send(0);
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.receive();
    child
}

fn limit(resource: libc::c_int, soft: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    assert_eq!(unsafe { libc::getrlimit(resource as _, &raw mut limit) }, 0);
    limit.rlim_cur = soft;
    assert_eq!(unsafe { libc::setrlimit(resource as _, &raw const limit) }, 0);
}

/// A call that the kernel does not make, and for which it returns an errno, or success for 0. With a mask, only if the fourth
/// argument, the flags of fstatat(2), has all of these bits.
struct Refusal(libc::c_long, i32, i32);

/// From now on, for this process and the programs that it becomes.
fn refuse(Refusal(call, mask, errno): &Refusal) -> io::Result<()> {
    let flags = 16 + 3 * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = [
        step(load, 0, 0, 0),
        step(equal, 0, 4, *call as u32),
        step(load, 0, 0, flags),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, *mask as u32),
        step(equal, 0, 1, *mask as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | *errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0
        && unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } == 0;
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

static NO_CLOCK: AtomicBool = AtomicBool::new(false);

/// Replaces the C library's, which makes no system call that a filter could refuse.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    if NO_CLOCK.load(Relaxed) {
        unsafe { *libc::__errno_location() = libc::EINVAL };
        return -1;
    }
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}

// The messages.

fn words_of_a_runline(scratch: &Scratch) -> Vec<Seen> {
    let path = scratch.path("pid");
    let lines: [&[&str]; 15] = [
        &[],
        &["fly"],
        &["run", "-q", path, "true"],
        &["run", "-E", "", path, "true"],
        &["run", "-E", "256", path, "true"],
        &["run", "-t"],
        &["run", "-t", "", path, "true"],
        &["stop", "-t", "1s", path],
        &["run", "-m", "", path, "true"],
        &["run", "-m", "u+r", path, "true"],
        &["signal", "-s", "", path],
        &["signal", "-s", "NOPE", path],
        &["status"],
        &["run", path],
        &["status", path, "more"],
    ];
    let mut seen: Vec<Seen> = lines.iter().map(|arguments| say("", arguments)).collect();
    seen.push(say("a/", &["run", "a/", "true"]));
    seen.push(say("a/", &["status", "a/"]));
    seen
}

fn held(scratch: &Scratch) -> Vec<Seen> {
    let path = scratch.path("held");
    let _holder = holder(path);
    let mut seen = vec![
        say(path, &["run", path, "true"]),
        say(path, &["wait", "-t", "0", path]),
        say(path, &["stop", "-t", "0", path]),
        on_a_terminal(path),
    ];
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    seen.push(say(path, &["signal", "-s", "0", path]));
    let path = scratch.path("inherited");
    fs::write(path, "").unwrap();
    let inherited = Inherited::new(path);
    for sharers in 1..=2 {
        if sharers == 2 {
            inherited.fork_once_more();
        }
        seen.push(say(path, &["run", path, "true"]));
        seen.push(say(path, &["signal", "-s", "0", path]));
        seen.push(say(path, &["status", path]));
        seen.push(on_a_terminal(path));
    }
    let path = scratch.path("leased");
    fs::write(path, "").unwrap();
    let Some((_child, _)) = lease(path, false) else { panic!("no leases on this file system") };
    seen.push(say(path, &["run", path, "true"]));
    seen.push(say(path, &["signal", "-s", "0", path]));
    seen.push(say(path, &["status", path]));
    seen.push(on_a_terminal(path));
    seen
}

/// The messages of a wait at a terminal.
fn on_a_terminal(path: &str) -> Seen {
    let (mut person, program) = terminal();
    let mut waiting = pidflock().args(["wait", path]).stderr(program).spawn().unwrap();
    let mut line = vec![];
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        person.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    let line = String::from_utf8(line).unwrap();
    (line.trim_end().strip_prefix(&format!("pidflock: {path}: ")).unwrap().to_owned(), None)
}

fn not_held(scratch: &Scratch) -> Vec<Seen> {
    let (path, empty) = (scratch.path("stale"), scratch.path("empty"));
    holder(path).kill_and_wait();
    fs::write(empty, "").unwrap();
    let alive = scratch.path("alive");
    PidLock::acquire(alive).unwrap().disown();
    vec![
        say(alive, &["status", alive]),
        say(alive, &["stop", alive]),
        say(path, &["status", path]),
        say(path, &["signal", path]),
        say(empty, &["status", empty]),
        say("/no/file", &["status", "/no/file"]),
    ]
}

fn odd_files(scratch: &Scratch) -> Vec<Seen> {
    let (file, plain) = (scratch.path("run.pid"), scratch.path("plain"));
    let directory = scratch.path("");
    let directory = directory.trim_end_matches('/');
    fs::write(plain, "").unwrap();
    let (below, missing) = (scratch.path("plain/pid"), scratch.path("missing"));
    vec![
        say(directory, &["run", directory, "true"]),
        say(directory, &["status", directory]),
        say(below, &["run", below, "true"]),
        say(below, &["status", below]),
        say(missing, &["run", file, missing]),
        say(plain, &["run", file, plain]),
        command(
            "standard output",
            pidflock().arg("--help").stdout(File::options().write(true).open("/dev/full").unwrap()),
        ),
    ]
}

fn calls_that_fail_by_themselves(scratch: &Scratch) -> Vec<Seen> {
    let (path, circle, missing) = (scratch.path("pid"), scratch.path("circle"), scratch.path("no/pid"));
    let around = scratch.path("circle/pid");
    symlink(circle, circle).unwrap();
    let long = scratch.path(&format!("{}/pid", "x".repeat(256)));
    let open = |flags| {
        let name = CString::new(path).unwrap();
        let fd = unsafe { libc::open(name.as_ptr(), flags | libc::O_CLOEXEC) };
        assert_ne!(fd, -1);
        fd
    };
    let acquire = |path| PidLock::acquire(path).map(drop);
    vec![
        library(|| acquire(around)),
        library(|| acquire(long)),
        library(|| PidLock::options().create_parents(false).acquire(missing).map(drop)),
        library(|| {
            let lock = PidLock::acquire(path)?;
            let refused = pidflock::read_pid(unsafe { BorrowedFd::borrow_raw(open(libc::O_WRONLY)) }).map(drop);
            lock.release().and(refused)
        }),
        library(|| {
            let lock = PidLock::acquire(path)?;
            let refused = PidLock::adopt(unsafe { OwnedFd::from_raw_fd(open(libc::O_RDONLY)) }, path).map(drop);
            lock.release().and(refused)
        }),
        library(|| {
            limit(libc::RLIMIT_NOFILE as _, 0);
            acquire(path)
        }),
        library(|| {
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            limit(libc::RLIMIT_FSIZE as _, 0);
            acquire(path)
        }),
        library(|| {
            NO_CLOCK.store(true, Relaxed);
            PidLock::options().wait(Wait::For(Duration::ZERO)).acquire(path).map(drop)
        }),
    ]
}

fn calls_that_the_kernel_refuses(scratch: &Scratch) -> Vec<Seen> {
    use libc::*;
    let (path, held, long) = (scratch.path("pid"), scratch.path("signalled"), scratch.path("long"));
    let nested = scratch.path("nested/pid");
    let holder = holder(held);
    fs::write(long, "x".repeat(100)).unwrap();
    let acquire = |path: &'static str| move || PidLock::acquire(path).map(drop);
    let release = || PidLock::acquire(path)?.release();
    let signal = || pidflock::signal(held, Signal::CHECK).map(drop);
    let refused = |refusals: &[Refusal], work: &dyn Fn() -> Result<(), Error>| {
        library(|| {
            refusals.iter().for_each(|refusal| refuse(refusal).unwrap());
            work()
        })
    };
    let mut seen = vec![
        refused(&[Refusal(SYS_flock, 0, ENOLCK)], &acquire(path)),
        refused(&[Refusal(SYS_flock, 0, ENOSYS)], &acquire(path)),
        refused(&[Refusal(SYS_flock, 0, EOPNOTSUPP)], &acquire(path)),
        refused(&[Refusal(SYS_openat, 0, ENFILE)], &acquire(path)),
        refused(&[Refusal(SYS_openat, 0, ENOMEM)], &acquire(path)),
        // The C library uses one of these two calls for an open file.
        refused(&[Refusal(SYS_fstat, 0, EIO), Refusal(SYS_newfstatat, AT_EMPTY_PATH, EIO)], &acquire(path)),
        refused(&[Refusal(SYS_newfstatat, AT_SYMLINK_NOFOLLOW, EACCES)], &acquire(path)),
        refused(&[Refusal(SYS_getpid, 0, 0)], &acquire(path)),
        refused(&[Refusal(SYS_pwrite64, 0, EDQUOT)], &acquire(path)),
        refused(&[Refusal(SYS_fsync, 0, EIO)], &acquire(path)),
        refused(&[Refusal(SYS_fchmod, 0, EIO)], &|| PidLock::options().mode(0o622).acquire(path).map(drop)),
        refused(&[Refusal(SYS_ftruncate, 0, EPERM)], &acquire(long)),
        refused(&[Refusal(SYS_mkdirat, 0, EROFS)], &acquire(nested)),
        refused(&[Refusal(SYS_unlinkat, 0, EEXIST)], &release),
        refused(&[Refusal(SYS_getdents64, 0, EIO)], &signal),
        refused(&[Refusal(SYS_pidfd_send_signal, 0, EINVAL)], &signal),
        refused(&[Refusal(SYS_pidfd_open, 0, ENOSYS), Refusal(SYS_kill, 0, EPERM)], &signal),
    ];
    // Errors that nothing here causes without a filter.
    let rare = [
        E2BIG,
        EBUSY,
        EDEADLK,
        EDESTADDRREQ,
        EFAULT,
        EISDIR,
        EMLINK,
        ENODEV,
        ENOEXEC,
        ENOTCONN,
        ENXIO,
        EOVERFLOW,
        EPIPE,
        ESPIPE,
        ESTALE,
        ETIMEDOUT,
        ETXTBSY,
        EWOULDBLOCK,
    ];
    seen.extend(rare.map(|errno| refused(&[Refusal(SYS_fsync, 0, errno)], &acquire(path))));
    drop(holder);
    // The guard cannot be forked.
    let mut run = pidflock();
    run.args(["run", path, "true"]);
    unsafe { run.pre_exec(|| refuse(&Refusal(SYS_clone, 0, EAGAIN))) };
    seen.push(command(path, &mut run));
    // A path that never leads to the file that it opened.
    let mut run = pidflock();
    run.args(["run", path, "true"]);
    unsafe { run.pre_exec(|| refuse(&Refusal(SYS_newfstatat, AT_SYMLINK_NOFOLLOW, 0))) };
    seen.push(command(path, &mut run));
    seen
}

/// A failure of the first pidfd_open only hides the holder's name. The second one must fail, so the limit goes up and down
/// until it does.
fn calls_that_fail_the_second_time(scratch: &Scratch) -> Vec<Seen> {
    let path = scratch.path("held");
    let _holder = holder(path);
    let wanted = ["pidfd_open: too many open files", "ppoll: invalid argument"];
    let text = told(|tell| {
        thread::spawn(|| {
            loop {
                limit(libc::RLIMIT_NOFILE as _, 0);
                limit(libc::RLIMIT_NOFILE as _, 512);
            }
        });
        let mut missing = BTreeSet::from(wanted);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !missing.is_empty() && Instant::now() < deadline {
            if let Err(error) = Holder::find(path) {
                if missing.remove(&*error.to_string()) {
                    tell(error);
                }
            }
        }
    });
    text.lines().map(|line| (line.to_owned(), None)).collect()
}
