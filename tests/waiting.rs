//! A wait ends when the holder releases, never before its time is over, and costs almost nothing meanwhile.

mod support;

use pidflock::{Error, Pid, PidLock, Signal, State, Wait, probe, read_pid_from, signal, wait_released};
use std::{
    fs,
    os::fd::AsRawFd,
    sync::atomic::{AtomicI32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use support::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

/// A child that holds a name until the test makes it release. Then it lives on, so that only the lock can wake a waiter.
struct Holding {
    child: Child,
    go: Pipe,
    done: Pipe,
}

impl Holding {
    fn new(path: &str) -> Holding {
        let (go, done) = (Pipe::new(), Pipe::new());
        let child = fork(|| {
            let lock = PidLock::acquire(path).unwrap();
            done.send(0);
            go.receive();
            lock.release().unwrap();
            done.send(0);
            go.receive(); // never comes
            0
        });
        done.receive();
        Holding { child, go, done }
    }

    fn refusal(&self) -> Option<Error> {
        Some(Error::AlreadyLocked { holder: Pid::new(self.child.pid) })
    }

    /// Kills it, or makes it release and returns it alive.
    fn end(self, death: bool) -> Option<Child> {
        if death {
            self.child.kill_and_wait();
            return None;
        }
        self.go.send(0);
        self.done.receive();
        Some(self.child)
    }
}

fn acquire(path: &str, wait: Wait) -> Result<PidLock, Error> {
    PidLock::options().wait(wait).acquire(path)
}

fn microseconds(time: Duration) -> i32 {
    time.as_micros().try_into().unwrap()
}

/// A child that sleeps in `work`, and sends the result of `work` at the end.
fn waiting(work: impl FnOnce() -> i32) -> (Child, Pipe) {
    let (started, through) = (Pipe::new(), Pipe::new());
    let child = fork(|| {
        started.send(0);
        through.send(work());
        0
    });
    started.receive();
    until_asleep(child.pid);
    (child, through)
}

/// Returns once the process sleeps again, or after a tenth of a second, because it sleeps for longer.
fn until_asleep_anew(pid: i32) {
    let (start, before) = (Instant::now(), voluntary_switches(pid));
    while voluntary_switches(pid) == before && start.elapsed() < 100 * MILLISECOND {
        thread::yield_now();
    }
}

/// The best of 7 times, in microseconds, from the end of a holder to the start of its successor.
///
/// A loaded machine can delay any of them, so the best one counts. The holder ends right after a poll of the waiter, when the
/// pauses have grown to their full length. So a waiter that only polls is always late.
fn handover(path: &str, wait: Wait, death: bool) -> i32 {
    let times = (0..7).map(|_| {
        let holder = Holding::new(path);
        let start = Instant::now();
        let (child, through) = waiting(|| {
            let lock = acquire(path, wait).unwrap();
            let now = start.elapsed();
            assert_eq!(lock.is_current(), Ok(true));
            microseconds(now)
        });
        thread::sleep(150 * MILLISECOND);
        until_asleep_anew(child.pid);
        let end = microseconds(start.elapsed());
        let _alive = holder.end(death);
        let time = through.receive() - end;
        assert_eq!(child.wait(), End::Exit(0));
        assert!(time >= 0, "got in {} microseconds before the end", -time);
        time
    });
    times.min().unwrap()
}

#[test]
fn a_wait_for_a_time_is_never_short_and_hardly_long() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let holder = Holding::new(path);
    // 60 ms end between two polls: without a last, shorter pause the wait would be 35 ms too long.
    for time in [1, 10, 60, 200].map(|number| number * MILLISECOND) {
        let late = (0..5).map(|_| {
            let start = Instant::now();
            assert_eq!(acquire(path, Wait::For(time)).err(), holder.refusal());
            microseconds(start.elapsed()) - microseconds(time)
        });
        let late: Vec<i32> = late.collect();
        assert!(late.iter().all(|late| *late >= 0), "{late:?}");
        assert!(late.iter().any(|late| *late < 20_000), "{late:?}");
    }
}

#[test]
fn a_wait_for_a_time_ends_at_once_when_the_holder_is_killed() {
    let scratch = Scratch::new();
    let time = handover(scratch.path("x.pid"), Wait::For(LONG), true);
    assert!(time < 20_000, "{time} microseconds");
}

#[test]
fn a_wait_for_a_time_ends_soon_when_the_holder_releases() {
    let scratch = Scratch::new();
    let time = handover(scratch.path("x.pid"), Wait::For(LONG), false);
    assert!(time < 80_000, "{time} microseconds");
}

#[test]
fn a_wait_without_end_ends_at_once_when_the_holder_is_killed_or_releases() {
    let scratch = Scratch::new();
    for death in [true, false] {
        let time = handover(scratch.path("x.pid"), Wait::Forever, death);
        assert!(time < 20_000, "{time} microseconds after a {}", if death { "death" } else { "release" });
    }
}

static TICKS: AtomicI32 = AtomicI32::new(0);

extern "C" fn tick(_: libc::c_int) {
    TICKS.fetch_add(1, Relaxed);
}

/// From now on a signal handler runs every two milliseconds and interrupts every call.
fn interrupt_all_the_time() {
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = tick as *const () as usize; // and no SA_RESTART
    assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) }, 0);
    let often = libc::timeval { tv_sec: 0, tv_usec: 2000 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }, 0);
}

#[test]
fn a_signal_handler_does_not_shorten_a_wait_for_a_time() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let holder = Holding::new(path);
    let refusal = holder.refusal();
    let child = fork(|| {
        interrupt_all_the_time();
        let start = Instant::now();
        assert_eq!(acquire(path, Wait::For(300 * MILLISECOND)).err(), refusal);
        assert!(start.elapsed() >= 300 * MILLISECOND);
        assert!(TICKS.load(Relaxed) >= 20);
        let start = Instant::now();
        assert_eq!(wait_released(path, Wait::For(100 * MILLISECOND)).err(), refusal);
        assert!(start.elapsed() >= 100 * MILLISECOND);
        0
    });
    assert_eq!(child.wait(), End::Exit(0));
}

#[test]
fn a_signal_handler_does_not_end_a_wait_without_end() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    type Waiting = fn(&str);
    let acquire: Waiting = |path| acquire(path, Wait::Forever).unwrap().release().unwrap();
    let wait: Waiting = |path| wait_released(path, Wait::Forever).unwrap();
    for work in [acquire, wait] {
        let holder = Holding::new(path);
        let (child, through) = waiting(|| {
            interrupt_all_the_time();
            work(path);
            TICKS.load(Relaxed)
        });
        assert_eq!(through.receive_within(200), None);
        let _alive = holder.end(false);
        assert!(through.receive() >= 20);
        assert_eq!(child.wait(), End::Exit(0));
    }
}

#[test]
fn waiters_that_queue_on_a_file_that_its_holder_removes_move_on_to_the_next_one_by_one() {
    let scratch = Scratch::new();
    let (path, inside) = (scratch.path("x.pid"), scratch.path("inside"));
    for round in 0..5 {
        let holder = Holding::new(path);
        let waits = [Wait::Forever, Wait::Forever, Wait::For(LONG), Wait::Forever, Wait::For(LONG), Wait::Forever];
        let waiters = waits.map(|wait| {
            waiting(|| {
                let lock = acquire(path, wait).unwrap();
                fs::File::create_new(inside).expect("two at a time");
                assert_eq!(lock.is_current(), Ok(true));
                assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
                fs::remove_file(inside).unwrap();
                lock.release().unwrap();
                0
            })
        });
        let _alive = holder.end(round == 0); // one ends by death: then the file stays, and the queue with it
        for (child, through) in waiters {
            through.receive();
            assert_eq!(child.wait(), End::Exit(0));
        }
        assert_eq!(probe(path), Ok(State::Absent));
    }
}

#[test]
fn a_wait_for_a_time_moves_on_when_the_file_is_removed_although_its_holder_lives() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let holder = Holding::new(path);
    type Waiting = fn(&str) -> Result<(), Error>;
    let acquire: Waiting = |path| acquire(path, Wait::For(LONG)).map(PidLock::disown);
    let wait: Waiting = |path| wait_released(path, Wait::For(LONG));
    let waiters = [acquire, wait].map(|work| waiting(|| work(path).is_ok().into()));
    fs::remove_file(path).unwrap();
    for (_, through) in &waiters {
        assert_eq!(through.receive_within(5000), Some(1)); // before the holder would give up
    }
    let successor = Pid::new(waiters[0].0.pid);
    assert_eq!(read_pid_from(path), Ok(successor));
    drop(holder);
}

#[test]
fn a_lease_on_the_file_is_contention_and_is_waited_for() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    fs::write(path, "").unwrap();
    let Some(held) = lease(path, false) else { return skip("no leases on this file system") };
    let refused = Error::AlreadyLocked { holder: None };
    assert_eq!(PidLock::acquire(path).err(), Some(refused));
    assert_eq!(probe(path), Ok(State::Held { holder: None }));
    assert_eq!(read_pid_from(path), Err(refused));
    assert_eq!(signal(path, Signal::CHECK), Err(refused));
    for time in [0, 1, 60].map(|number| number * MILLISECOND) {
        let start = Instant::now();
        assert_eq!(acquire(path, Wait::For(time)).err(), Some(refused));
        assert!(start.elapsed() >= time);
        assert_eq!(wait_released(path, Wait::For(time)), Err(refused));
    }
    drop(held);

    for wait in [Wait::For(LONG), Wait::Forever] {
        for takes in [true, false] {
            let (lease, go) = lease(path, false).unwrap();
            let (child, through) = waiting(|| {
                if takes {
                    std::mem::forget(PidLock::options().wait(wait).acquire(path).unwrap());
                } else {
                    wait_released(path, wait).unwrap();
                }
                0
            });
            assert_eq!(through.receive_within(150), None);
            go.send(0);
            assert_eq!(lease.wait(), End::Exit(0));
            through.receive();
            assert_eq!(child.wait(), End::Exit(0));
        }
    }
}

/// The scheduler decides whether the lease ends in time: in a hundred tries it does at least once.
#[test]
fn a_lease_that_is_given_up_at_once_keeps_nobody_out() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let in_time = || {
        fs::write(path, "").unwrap();
        let (child, _) = lease(path, true)?;
        let acquired = PidLock::acquire(path);
        drop(child);
        Some(acquired.is_ok())
    };
    let Some(first) = in_time() else { return skip("no leases on this file system") };
    assert!(first || (1..100).any(|_| in_time() == Some(true)));
}

#[test]
fn a_wait_for_no_time_is_a_single_try() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    acquire(path, Wait::For(Duration::ZERO)).unwrap().release().unwrap();
    let holder = Holding::new(path);
    let quick = (0..5).any(|_| {
        let start = Instant::now();
        assert_eq!(acquire(path, Wait::For(Duration::ZERO)).err(), holder.refusal());
        assert_eq!(wait_released(path, Wait::For(Duration::ZERO)).err(), holder.refusal());
        start.elapsed() < 2 * MILLISECOND
    });
    assert!(quick);
}

#[test]
fn a_wait_for_the_longest_duration_never_ends() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    acquire(path, Wait::For(Duration::MAX)).unwrap().release().unwrap();
    let holder = Holding::new(path);
    let (child, through) = waiting(|| {
        wait_released(path, Wait::For(Duration::MAX)).unwrap();
        drop(acquire(path, Wait::For(Duration::MAX)).unwrap());
        0
    });
    assert_eq!(through.receive_within(100), None);
    holder.end(true);
    through.receive();
    assert_eq!(child.wait(), End::Exit(0));
}

#[test]
fn a_name_that_nobody_holds_is_not_waited_for() {
    let scratch = Scratch::new();
    let (absent, free, nowhere) = (scratch.path("absent"), scratch.path("free"), scratch.path("no/such/directory"));
    fs::write(free, "1\n").unwrap();
    for wait in [Wait::Never, Wait::For(Duration::ZERO), Wait::For(LONG), Wait::Forever] {
        for path in [absent, free, nowhere] {
            assert_eq!(wait_released(path, wait), Ok(()));
        }
    }
    assert_eq!(fs::read(free).unwrap(), b"1\n");
    assert_eq!(fs::read_dir(&scratch.directory).unwrap().count(), 1);
}

#[test]
fn a_held_name_is_waited_for_until_its_holder_is_killed_or_releases() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for death in [true, false] {
        for wait in [Wait::For(LONG), Wait::Forever] {
            let holder = Holding::new(path);
            assert_eq!(wait_released(path, Wait::Never).err(), holder.refusal());
            assert_eq!(wait_released(path, Wait::For(5 * MILLISECOND)).err(), holder.refusal());
            let (child, through) = waiting(|| {
                wait_released(path, wait).unwrap();
                0
            });
            assert_eq!(through.receive_within(20), None);
            let _alive = holder.end(death);
            through.receive();
            assert_eq!(child.wait(), End::Exit(0));
            let left =
                if death { probe(path).is_ok_and(|state| state != State::Absent) } else { !fs::exists(path).unwrap() };
            assert!(left, "it is the holder who removes, and not the waiter");
        }
    }
}

fn voluntary_switches(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_waiter_wakes_at_most_25_times_a_second() {
    let scratch = Scratch::new();
    let [living, nameless, orphaned] = ["living", "nameless", "orphaned"].map(|name| scratch.path(name));
    let holder = Holding::new(living);

    let file = fs::File::create(nameless).unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);

    // The file names a dead process, and a copy that it left behind keeps the lock.
    let (ready, go) = (Pipe::new(), Pipe::new());
    let dead = fork(|| {
        let lock = PidLock::acquire(orphaned).unwrap();
        let copy = fork(|| {
            go.receive();
            0
        });
        std::mem::forget((lock, copy));
        ready.send(0);
        go.receive();
        0
    });
    ready.receive();
    dead.kill_and_wait();

    type Waiting = fn(&str) -> Result<(), Error>;
    let acquire: Waiting = |path| acquire(path, Wait::For(LONG)).map(drop);
    let wait: Waiting = |path| wait_released(path, Wait::For(LONG));
    let waiters = [living, nameless, orphaned]
        .map(|path| [acquire, wait].map(|work| (path, waiting(|| work(path).is_ok().into()))));
    thread::sleep(300 * MILLISECOND); // the first pauses are short
    let switches = || waiters.as_flattened().iter().map(|(_, (child, _))| voluntary_switches(child.pid));
    let (start, before): (_, Vec<i32>) = (Instant::now(), switches().collect());
    thread::sleep(2000 * MILLISECOND);
    let (after, most): (Vec<i32>, _) = (switches().collect(), start.elapsed().as_millis() * 25 / 1000);
    for (((path, (_, through)), before), after) in waiters.as_flattened().iter().zip(before).zip(after) {
        assert_eq!(through.receive_within(0), None, "{path}");
        assert!(u128::try_from(after - before).unwrap() <= most, "{path}: {} times", after - before);
    }
    go.send(0);
    drop(holder);
}

/// From now on pidfd_open and pidfd_send_signal fail with this, as before Linux 5.3 or in some containers.
fn without_pidfds(errno: i32) {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code.try_into().unwrap(), jt, jf, k };
    let load_number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        instruction(load_number, 0, 0, 0),
        instruction(equals, 1, 0, libc::SYS_pidfd_open.try_into().unwrap()),
        instruction(equals, 0, 1, libc::SYS_pidfd_send_signal.try_into().unwrap()),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr() };
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
    assert_eq!(unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) }, -1);
}

#[test]
fn without_pidfds_a_waiter_still_wakes_within_a_tenth_of_a_second_and_a_holder_is_named_and_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for errno in [libc::ENOSYS, libc::EPERM] {
        let child = fork(|| {
            without_pidfds(errno);
            let time = handover(path, Wait::For(LONG), true);
            assert!(time < 100_000, "{time} microseconds");

            let holder = Holding::new(path);
            let start = Instant::now();
            assert_eq!(PidLock::acquire(path).err(), holder.refusal());
            assert_eq!(acquire(path, Wait::For(70 * MILLISECOND)).err(), holder.refusal());
            assert!(start.elapsed() >= 70 * MILLISECOND);
            assert_eq!(pidflock::signal(path, Signal::CHECK), Ok(Pid::new(holder.child.pid).unwrap()));
            assert_eq!(pidflock::signal(path, Signal::TERM), Ok(Pid::new(holder.child.pid).unwrap()));
            assert_eq!(holder.child.wait(), End::Signal(libc::SIGTERM));
            assert_eq!(pidflock::signal(path, Signal::CHECK), Err(Error::NotLocked));
            0
        });
        assert_eq!(child.wait(), End::Exit(0));
    }
}

/// A child that has a shared lock on the file. It keeps the lock for the milliseconds that the test sends.
fn share(path: &str) -> (Child, Pipe) {
    let (taken, go) = (Pipe::new(), Pipe::new());
    let child = fork(|| {
        let file = fs::File::create(path).unwrap();
        taken.send(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) });
        let time = go.receive();
        thread::sleep(MILLISECOND * time.unsigned_abs());
        0
    });
    assert_eq!(taken.receive(), 0);
    (child, go)
}

/// A shared lock that ends 40 ms after the deadline does not make the wait fail. A loaded machine may be late, so one success in
/// three tries is enough. A shared lock that stays makes the wait fail.
fn goes_on_after_its_deadline(milliseconds: &[i32]) {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for number in milliseconds {
        let time = MILLISECOND * number.unsigned_abs();
        let acquired = (0..3).any(|_| {
            let (child, go) = share(path);
            go.send(number + 40);
            let acquired = acquire(path, Wait::For(time));
            assert_eq!(child.wait(), End::Exit(0));
            acquired.is_ok()
        });
        assert!(acquired, "after {time:?}");

        let (_child, _go) = share(path);
        let start = Instant::now();
        assert_eq!(acquire(path, Wait::For(time)).err(), Some(Error::AlreadyLocked { holder: None }));
        let late = start.elapsed().saturating_sub(time);
        assert!((80 * MILLISECOND..1000 * MILLISECOND).contains(&late), "after {time:?}: {late:?}");
    }
}

#[test]
fn a_short_wait_beside_a_shared_lock_goes_on_for_a_tenth_of_a_second_after_its_deadline() {
    goes_on_after_its_deadline(&[0, 20, 100]);
}

#[test]
fn a_long_wait_beside_a_shared_lock_goes_on_for_a_tenth_of_a_second_after_its_deadline() {
    goes_on_after_its_deadline(&[1000, 4000]);
}
