//! Checks that a signal never reaches a stranger that got the PID of a dead holder.
//!
//! A separate PID namespace lets root choose the next PID (`ns_last_pid`). Each try goes like this, while a stopper signals
//! "the holder" as fast as it can:
//!
//! 1. A holder takes the name and writes its PID. It ignores the signal.
//! 2. It is killed and waited for. A stranger is forked with the same PID.
//! 3. In every second try a starter locks the file, and is slow to write its PID. The file is locked, and names the stranger.
//! 4. The stopper tries a few times. Then the stranger is ended; it was hit if the stopper was faster.
//!
//! Two simpler stoppers do the same, with a tenth of the tries each.
//!
//! Usage: `ci/recycle/run [TRIES]`, as root. Exits with 1 if pidflock hit a stranger, or if plain `kill` hit none: then
//! nothing was tested.

use pidflock::{PidLock, Signal, State, probe, read_pid_from, signal};
use std::{
    env, fs,
    io::{self, Error, Write},
    os::{fd::AsRawFd, unix::fs::FileExt},
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst},
    thread,
};

/// The memory that the processes share.
#[derive(Default)]
struct Board {
    /// The PID of the holder, 0 while there is none.
    holder: AtomicI32,
    /// How often the stopper tried, and how often it signalled a process.
    goes: AtomicU32,
    signals: AtomicU32,
}

/// One way to stop "the holder": returns whether it signalled a process.
type Stopper = fn(&str) -> bool;

const STOPPERS: [(&str, Stopper); 3] = [
    ("pidflock::signal", |path| signal(path, Signal::TERM).is_ok()),
    ("kill, if the file is locked", |path| matches!(probe(path), Ok(State::Held { .. })) && plain_kill(path)),
    ("kill $(cat FILE)", plain_kill),
];

fn plain_kill(path: &str) -> bool {
    let pid = read_pid_from(path).ok().flatten();
    pid.is_some_and(|pid| unsafe { libc::kill(pid.get(), libc::SIGTERM) } == 0)
}

fn main() -> ExitCode {
    let tries = env::args().nth(1).map_or(10_000, |text| text.parse().expect("TRIES is a number"));
    // Its first child is process 1 of a namespace, and its end ends all others.
    if unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) } != 0 {
        eprintln!("recycle: no PID namespace: {}; it needs root", Error::last_os_error());
        return ExitCode::from(2);
    }
    let first = fork(|| measure(tries));
    ExitCode::from(u8::try_from(libc::WEXITSTATUS(wait(first))).unwrap_or(2))
}

fn measure(tries: u32) -> io::Result<i32> {
    mount_proc()?;
    let directory = env::temp_dir().join(format!("pidflock-recycle-{}", moment()));
    fs::create_dir(&directory)?;
    let path = directory.join("x.pid");
    let path = path.to_str().expect("a path in UTF-8");
    let mut hits = [0; STOPPERS.len()];
    for (number, (name, stopper)) in STOPPERS.into_iter().enumerate() {
        // The others only show that strangers can be hit, which needs fewer tries.
        let tries = if number == 0 { tries } else { tries.div_ceil(10) };
        let (hit, signals) = run(path, tries, stopper)?;
        println!("{name:<28} {hit:>5} strangers died in {tries:>6} tries, {signals:>7} signals sent");
        hits[number] = hit;
    }
    fs::remove_dir_all(&directory)?;
    Ok(i32::from(hits[0] != 0 || hits[2] == 0))
}

/// All tries with one stopper: how many strangers it hit, and how many signals it sent.
fn run(path: &str, tries: u32, stopper: Stopper) -> io::Result<(u32, u32)> {
    let board = shared_board();
    let next_number = fs::File::options().write(true).open("/proc/sys/kernel/ns_last_pid")?;
    let stopper = fork(|| {
        loop {
            board.signals.fetch_add(u32::from(stopper(path)), SeqCst);
            board.goes.fetch_add(1, SeqCst);
        }
    });
    let mut hits = 0;
    for number in 0..tries {
        let holder = fork(|| {
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            let _lock = PidLock::options().sync(false).acquire(path).map_err(Error::from)?;
            board.holder.store(unsafe { libc::getpid() }, SeqCst);
            sleep_until_killed()
        });
        until(|| board.holder.load(SeqCst) == holder);
        pass(board, 0);
        // The holder can die at any moment of the stopper's work.
        for _ in 0..number % 64 * 32 {
            std::hint::spin_loop();
        }
        kill(holder);
        wait(holder);

        next_number.write_all_at((holder - 1).to_string().as_bytes(), 0)?; // the PID before the next one
        let stranger = fork(sleep_until_killed);
        assert_eq!(stranger, holder, "somebody else has taken the number");
        // Locks after the fork, so that the stranger has no copy of the lock.
        let starter = (number % 2 == 1).then(|| lock(path)).transpose()?;
        pass(board, 1);
        kill(stranger);
        hits += u32::from(libc::WTERMSIG(wait(stranger)) == libc::SIGTERM);
        drop(starter);
        board.holder.store(0, SeqCst);
    }
    kill(stopper);
    wait(stopper);
    Ok((hits, board.signals.load(SeqCst)))
}

/// Waits until the stopper has ended its current try and this many more.
fn pass(board: &Board, goes: u32) {
    let before = board.goes.load(SeqCst);
    until(|| board.goes.load(SeqCst).wrapping_sub(before) > goes);
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Locks the file and leaves it as it is.
fn lock(path: &str) -> io::Result<fs::File> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    // The stopper's shared lock, held for an instant, may be in the way.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } {
        0 => Ok(file),
        _ => Err(Error::last_os_error()),
    }
}

/// Mounts a /proc of this namespace, which is invisible outside.
fn mount_proc() -> io::Result<()> {
    let (root, proc, none) = (c"/".as_ptr(), c"/proc".as_ptr(), ptr::null());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    if unsafe { libc::mount(none, root, none, private, none.cast()) } != 0
        || unsafe { libc::mount(c"proc".as_ptr(), proc, c"proc".as_ptr(), 0, none.cast()) } != 0
    {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// A board that forked children share.
fn shared_board() -> &'static Board {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let memory = unsafe { libc::mmap(ptr::null_mut(), size_of::<Board>(), access, kind, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "{}", Error::last_os_error());
    // Zeros of fresh memory are a valid board, and it is never unmapped.
    unsafe { &*memory.cast::<Board>() }
}

/// Forks a child that runs this and exits with its result.
fn fork(work: impl FnOnce() -> io::Result<i32>) -> i32 {
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", Error::last_os_error()),
        0 => {
            let code = work().unwrap_or_else(|error| {
                eprintln!("recycle: {error}");
                2
            });
            let _ = io::stdout().flush();
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

fn sleep_until_killed() -> io::Result<i32> {
    loop {
        unsafe { libc::pause() };
    }
}

fn kill(pid: i32) {
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn wait(pid: i32) -> i32 {
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid, "{}", Error::last_os_error());
    status
}

/// A number that no other run on this machine has, because every run is process 1 in its namespace.
fn moment() -> u128 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos())
}
