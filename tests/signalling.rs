//! A signal reaches the holder or nobody; and to wait for a holder is to wait for this one.

mod support;

use pidflock::{
    Errno, Error, Holder, Pid, PidLock, Signal, State, Wait, probe, read_pid_from, sharers, signal, wait_released,
};
use std::{
    ffi::CString,
    fs,
    io::{Read, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    },
    sync::atomic::{AtomicI32, Ordering::Relaxed},
    time::Duration,
};
use support::*;

/// A user without rights.
const NOBODY: u32 = 65534;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// Held, by a process that cannot be named.
const NAMELESS: Error = Error::AlreadyLocked { holder: None };

fn pid(number: i32) -> Pid {
    Pid::new(number).unwrap()
}

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn receive(_: libc::c_int) {
    RECEIVED.fetch_add(1, Relaxed);
}

/// A child that counts the signals it receives. It has `user` and does `work` first, and keeps what that returns.
struct Target {
    child: Child,
    end: Pipe,
}

impl Target {
    fn new<T>(user: u32, work: impl FnOnce() -> T) -> Target {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let child = fork(|| {
            for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
                unsafe { libc::signal(signal, receive as *const () as libc::sighandler_t) };
            }
            if user != 0 {
                assert_eq!(unsafe { libc::setgid(user) }, 0);
                assert_eq!(unsafe { libc::setuid(user) }, 0);
            }
            let kept = work();
            ready.send(0);
            end.receive();
            drop(kept);
            // What was sent before the end was asked for has been received by now.
            RECEIVED.load(Relaxed)
        });
        ready.receive();
        Target { child, end }
    }

    /// A process that has nothing to do with any PID file.
    fn stranger() -> Target {
        Target::new(0, || ())
    }

    fn holder(path: &str) -> Target {
        Target::new(0, || PidLock::acquire(path).unwrap())
    }

    /// The same, and it leaves the file behind when it lets go.
    fn lasting_holder(path: &str) -> Target {
        Target::new(0, || PidLock::options().remove_on_release(false).acquire(path).unwrap())
    }

    /// Ends it, and says how many signals have reached it. Panics if one has killed it.
    fn received(self) -> i32 {
        self.end.send(0);
        match self.child.wait() {
            End::Exit(count) => count,
            End::Signal(signal) => panic!("killed by signal {signal}"),
        }
    }
}

/// A child that waits for a holder, asleep.
struct Waiter {
    child: Child,
    through: Pipe,
}

impl Waiter {
    fn new(holder: Holder, wait: Wait) -> Waiter {
        let (started, through) = (Pipe::new(), Pipe::new());
        let child = fork(|| {
            started.send(0);
            holder.wait(wait).unwrap();
            through.send(0);
            0
        });
        started.receive();
        until_asleep(child.pid);
        assert_eq!(through.receive_within(0), None);
        Waiter { child, through }
    }

    fn through(self) {
        // Sooner than a successor gives up, which would end the wait, too.
        self.through.receive_within(5000).expect("still waiting after five seconds");
        assert_eq!(self.child.wait(), End::Exit(0));
    }
}

/// A child that sleeps in flock until it has the name, and then keeps it.
struct Successor {
    child: Child,
    acquired: Pipe,
}

impl Successor {
    fn new(path: &str) -> Successor {
        let (started, acquired) = (Pipe::new(), Pipe::new());
        let child = fork(|| {
            started.send(0);
            let _lock = PidLock::options().wait(Wait::Forever).acquire(path).unwrap();
            acquired.send(0);
            started.receive(); // never comes
            0
        });
        started.receive();
        until_asleep(child.pid);
        Successor { child, acquired }
    }

    fn assert_holds(&self, path: &str) {
        self.acquired.receive();
        assert_eq!(read_pid_from(path), Ok(Some(pid(self.child.pid))));
    }
}

/// Returns once it is dead, and leaves it for somebody to wait for.
fn until_dead(child: &Child) {
    let (ended, mut info) = (libc::WEXITED | libc::WNOWAIT, unsafe { std::mem::zeroed() });
    assert_eq!(unsafe { libc::waitid(libc::P_PID, child.pid.unsigned_abs(), &raw mut info, ended) }, 0);
}

const ALL: [Signal; 4] = [Signal::CHECK, Signal::HUP, Signal::TERM, Signal::KILL];

fn assert_all_refused(path: &str, error: Error) {
    for number in ALL {
        assert_eq!(signal(path, number), Err(error), "{number:?}");
    }
}

#[test]
fn a_signal_reaches_the_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let holder = Target::holder(path);
    for number in [Signal::CHECK, Signal::HUP, Signal::USR1] {
        assert_eq!(signal(path, number), Ok(pid(holder.child.pid)));
    }
    let found = Holder::find(path).unwrap();
    assert_eq!(found.pid(), pid(holder.child.pid));
    assert_eq!(found.signal(Signal::CHECK), Ok(()));
    assert_eq!(holder.received(), 2);
    assert_eq!(found.signal(Signal::TERM), Err(Error::NotLocked));

    let holder = Target::holder(path);
    assert_eq!(signal(path, Signal::KILL), Ok(pid(holder.child.pid)));
    assert_eq!(holder.child.wait(), End::Signal(libc::SIGKILL));
}

#[test]
fn nobody_is_signalled_where_nobody_holds_the_name() {
    let scratch = Scratch::new();
    let stranger = Target::stranger();
    let (absent, free) = (scratch.path("absent"), scratch.path("free"));
    fs::write(free, format!("{}\n", stranger.child.pid)).unwrap();
    for path in [absent, free, scratch.path("no/such/directory")] {
        assert_all_refused(path, Error::NotLocked);
        assert_eq!(Holder::find(path).err(), Some(Error::NotLocked));
    }
    let file = fs::File::open(free).unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH) }, 0);
    assert_all_refused(free, Error::NotLocked);
    assert_eq!(stranger.received(), 0);
}

#[test]
fn nobody_is_signalled_where_neither_the_file_nor_the_kernel_names_the_holder() {
    let scratch = Scratch::new();
    let stranger = Target::stranger();
    let dead = fork(|| 0);
    let number = dead.pid;
    let zombie = fork(|| 0);
    dead.wait();
    until_dead(&zombie);
    let claim = |number: i32| format!("{number}\n");

    let contents = [
        ("nobody", String::new()),
        ("every process of a group", claim(0)),
        ("every process", claim(-1)),
        ("a group", claim(-stranger.child.pid)),
        ("a dead process", claim(number)),
        ("a process that nobody has waited for", claim(zombie.pid)),
        ("a living stranger", claim(stranger.child.pid)),
    ];
    for (what, content) in contents {
        let path = scratch.path("x.pid");
        fs::write(path, content).unwrap();
        let locked = Inherited::new(path);
        for number in ALL {
            assert_eq!(signal(path, number), Err(NAMELESS), "{what}: {number:?}");
        }
        assert_eq!(Holder::find(path).err(), Some(NAMELESS), "{what}");
        assert_eq!(probe(path), Ok(State::Held { holder: None }), "{what}");
        drop(locked);
        assert_eq!(wait_released(path, Wait::For(LONG)), Ok(()));
    }

    let path = scratch.path("init.pid");
    fs::write(path, "1\n").unwrap();
    let holder = Target::new(0, || lock(path));
    // Also where the descriptors of init are hidden from us: /proc/locks names another process.
    assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.child.pid)));
    assert_eq!((stranger.received(), holder.received()), (0, 1));
}

#[test]
fn a_stranger_that_has_the_file_open_or_has_locked_another_is_not_its_holder() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("x.pid"), scratch.path("other.pid"));
    fs::write(path, "").unwrap();
    let stranger = Target::new(0, || (fs::File::open(path).unwrap(), PidLock::acquire(other).unwrap()));
    fs::write(path, format!("{}\n", stranger.child.pid)).unwrap();
    let holder = Target::new(0, || lock(path));
    assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.child.pid)));
    assert_eq!((stranger.received(), holder.received()), (0, 1));
}

/// What others do to a held file: busybox start-stop-daemon -m writes the loser's PID over it before it tries.
#[test]
fn a_holder_whose_claim_was_overwritten_is_named_signalled_and_waited_for() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let stranger = Target::stranger();
    let dead = fork(|| 0);
    let claims = ["".into(), "rubbish".into(), format!("{}\n", dead.pid), format!("{}\n", stranger.child.pid)];
    dead.wait();
    for claim in claims {
        let holder = Target::lasting_holder(path);
        let number = pid(holder.child.pid);
        fs::write(path, &claim).unwrap();
        assert_eq!(probe(path), Ok(State::Held { holder: Some(number) }), "{claim:?}");
        assert_eq!(signal(path, Signal::USR1), Ok(number), "{claim:?}");
        let found = Holder::find(path).unwrap();
        fs::write(path, "1\n").unwrap(); // a second loser
        assert_eq!((found.pid(), found.signal(Signal::USR2)), (number, Ok(())), "{claim:?}");
        let refused = Error::AlreadyLocked { holder: Some(number) };
        assert_eq!(found.wait(Wait::For(SHORT)), Err(refused), "{claim:?}");
        let waiter = Waiter::new(Holder::find(path).unwrap(), Wait::Forever);
        let successor = Successor::new(path);
        assert_eq!(holder.received(), 2, "{claim:?}");
        waiter.through();
        successor.assert_holds(path);
        assert_eq!(found.signal(Signal::KILL), Err(Error::NotLocked), "{claim:?}");
        drop(successor);
    }
    assert_eq!(stranger.received(), 0);
}

/// The owner rule holds for whomever the kernel names, too: a planted file that root has locked directs nothing at root.
#[test]
fn a_planted_file_directs_no_signal_at_a_process_that_the_kernel_names() {
    let scratch = Scratch::new();
    if !is_root() {
        return skip("only root can be two users");
    }
    let path = scratch.path("x.pid");
    fs::write(path, "").unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    let victim = Target::new(0, || lock(path));
    assert_eq!(probe(path), Ok(State::Held { holder: Some(pid(victim.child.pid)) }));
    assert_all_refused(path, Error::Untrusted);
    chown(path, Some(0), Some(0)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_all_refused(path, Error::Untrusted);
    assert_eq!(victim.received(), 0);
}

#[test]
fn a_holder_in_another_namespace_is_not_named_by_a_number_that_is_a_strangers_here() {
    let scratch = Scratch::new();
    if !is_root() {
        return skip("only root can make a PID namespace");
    }
    let path = scratch.path("x.pid");
    let (ready, end) = (Pipe::new(), Pipe::new());
    let jail = container(|| {
        let _lock = PidLock::acquire(path).unwrap();
        ready.send(0);
        end.receive();
        0
    });
    if ready.receive_within(10_000).is_none() {
        return skip("this root may not make a PID namespace");
    }
    assert_eq!(read_pid_from(path), Ok(Some(Pid::INIT)));
    // The kernel knows the number that it has here.
    let Ok(State::Held { holder: Some(number) }) = probe(path) else { panic!("{:?}", probe(path)) };
    assert_ne!(number, Pid::INIT);
    assert_eq!(signal(path, Signal::CHECK), Ok(number));
    end.send(0);
    assert_eq!(jail.wait(), End::Exit(0));
}

#[test]
fn nobody_is_signalled_through_a_file_that_everybody_can_write() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let holder = Target::holder(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o646)).unwrap();
    assert_all_refused(path, Error::Untrusted);
    fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(signal(path, Signal::CHECK), Ok(pid(holder.child.pid)));
    assert_eq!(holder.received(), 0);
}

#[test]
fn the_file_of_a_user_directs_no_signal_of_root_at_the_process_of_another() {
    let scratch = Scratch::new();
    if !is_root() {
        return skip("only root can be two users");
    }
    let (path, victim) = (scratch.path("x.pid"), Target::stranger());
    fs::write(path, format!("{}\n", victim.child.pid)).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    chown(&scratch.directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let planter = Target::new(NOBODY, || lock(path));
    if sees_others() {
        assert_eq!(signal(path, Signal::HUP), Ok(pid(planter.child.pid))); // who has the lock
        assert_eq!(planter.received(), 1);
    } else {
        assert_all_refused(path, Error::Untrusted);
        drop(planter);
    }
    // Not even if the victim itself has the lock: who wrote its number is not known.
    let victim_too = Target::new(0, || lock(path));
    fs::write(path, format!("{}\n", victim_too.child.pid)).unwrap();
    assert_all_refused(path, Error::Untrusted);
    assert_eq!((victim.received(), victim_too.received()), (0, 0));
}

#[test]
fn the_file_of_a_user_directs_a_signal_of_root_at_a_process_of_that_user_which_holds_it() {
    let scratch = Scratch::new();
    if !is_root() || !sees_others() {
        return skip("only root can be two users, and see what others have open");
    }
    let path = scratch.path("x.pid");
    chown(&scratch.directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let holder = Target::new(NOBODY, || PidLock::acquire(path).unwrap());
    assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.child.pid)));

    // But at no other process of that user.
    let stranger = Target::new(NOBODY, || ());
    fs::write(path, format!("{}\n", stranger.child.pid)).unwrap();
    assert_eq!(signal(path, Signal::USR2), Ok(pid(holder.child.pid)));
    assert_eq!((holder.received(), stranger.received()), (2, 0));
}

#[test]
fn a_holder_whose_file_was_replaced_is_not_signalled() {
    let scratch = Scratch::new();
    let (path, new) = (scratch.path("x.pid"), scratch.path("new"));
    let holder = Target::holder(path);
    let found = Holder::find(path).unwrap();
    fs::write(new, format!("{}\n", holder.child.pid)).unwrap();
    fs::rename(new, path).unwrap();
    for number in ALL {
        assert_eq!(found.signal(number), Err(Error::Replaced));
    }
    assert_all_refused(path, Error::NotLocked);
    fs::remove_file(path).unwrap();
    assert_eq!(found.signal(Signal::KILL), Err(Error::Replaced));
    assert_eq!(holder.received(), 0);
}

#[test]
fn a_successor_is_not_signalled_in_the_place_of_the_holder_that_was_found() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for new_file in [false, true] {
        let holder = Target::holder(path);
        let found = Holder::find(path).unwrap();
        if new_file {
            assert_eq!(holder.received(), 0);
        } else {
            holder.child.kill_and_wait();
        }
        assert_eq!(found.signal(Signal::CHECK), Err(Error::NotLocked));
        let successor = Target::holder(path);
        for number in ALL {
            assert_eq!(found.signal(number), Err(Error::NotLocked));
        }
        assert_eq!(successor.received(), 0);
    }
}

#[test]
fn a_holder_from_which_its_child_has_taken_over_is_not_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let (take_over, taken, end) = (Pipe::new(), Pipe::new(), Pipe::new());
    let parent = Target::new(0, || {
        let lock = PidLock::acquire(path).unwrap();
        let child = fork(|| {
            take_over.receive();
            lock.restamp().unwrap();
            taken.send(lock.pid().get());
            end.receive();
            0
        });
        (lock, child)
    });
    let found = Holder::find(path).unwrap();
    assert_eq!(found.signal(Signal::CHECK), Ok(()));
    take_over.send(0);
    let child = pid(taken.receive());
    for number in ALL {
        assert_eq!(found.signal(number), Err(Error::NotLocked));
    }
    assert_eq!(signal(path, Signal::CHECK), Ok(child));
    assert_eq!(parent.received(), 0);
}

#[test]
fn a_lock_that_a_dead_holder_has_left_in_a_child_has_no_holder_that_could_be_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let (ready, end) = (Pipe::new(), Pipe::new());
    let holder = fork(|| {
        let lock = PidLock::acquire(path).unwrap();
        let copy = fork(|| {
            end.receive();
            0
        });
        ready.send(copy.pid);
        std::mem::forget((lock, copy));
        end.receive();
        0
    });
    ready.receive();
    let found = Holder::find(path).unwrap();
    assert_eq!(found.pid(), pid(holder.pid));
    holder.kill(libc::SIGKILL);
    until_dead(&holder);
    assert_eq!(found.signal(Signal::CHECK), Err(Error::NotLocked));
    // Also where the file is another user's: of the dead, /proc does not tell whose they were.
    if is_root() {
        chown(path, Some(NOBODY), None).unwrap();
        assert_eq!(found.signal(Signal::CHECK), Err(Error::NotLocked));
    }
    holder.wait();
    assert!(is_locked(path));
    assert_eq!(Holder::find(path).err(), Some(NAMELESS));
    assert_all_refused(path, NAMELESS);
    assert_eq!(found.wait(Wait::For(SHORT)), Err(NAMELESS));
    assert_eq!(probe(path), Ok(State::Held { holder: None }));
    assert_eq!(found.signal(Signal::CHECK), Err(Error::NotLocked));

    end.send(0);
    assert_eq!(found.wait(Wait::For(LONG)), Ok(()));
    assert_eq!(Holder::find(path).err(), Some(Error::NotLocked));
}

#[test]
fn a_wait_for_a_holder_ends_when_it_dies_or_lets_go() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for wait in [Wait::For(LONG), Wait::Forever] {
        for death in [true, false] {
            let holder = Target::holder(path);
            let found = Holder::find(path).unwrap();
            let refused = Error::AlreadyLocked { holder: Some(pid(holder.child.pid)) };
            assert_eq!(found.wait(Wait::Never), Err(refused));
            assert_eq!(found.wait(Wait::For(SHORT)), Err(refused));
            let waiter = Waiter::new(found, wait);
            if death {
                holder.child.kill_and_wait();
            } else {
                assert_eq!(holder.received(), 0);
            }
            waiter.through();
        }
    }
}

#[test]
fn a_wait_for_a_holder_ends_although_a_successor_holds_a_new_file() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for wait in [Wait::For(LONG), Wait::Forever] {
        let holder = Target::holder(path);
        let waiter = Waiter::new(Holder::find(path).unwrap(), wait);
        let successor = Successor::new(path);
        assert_eq!(holder.received(), 0);
        successor.assert_holds(path);
        waiter.through();
    }
}

#[test]
fn a_wait_for_a_holder_for_a_time_ends_although_a_successor_holds_the_same_file() {
    same_file(Wait::For(LONG));
}

#[test]
fn a_wait_for_a_holder_without_end_ends_although_a_successor_holds_the_same_file() {
    same_file(Wait::Forever);
}

fn same_file(wait: Wait) {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for death in [true, false] {
        let holder = Target::lasting_holder(path);
        let found = Holder::find(path).unwrap();
        // First in the queue, so that the kernel lets it in before the waiter sees the file free.
        let successor = Successor::new(path);
        let waiter = Waiter::new(found, wait);
        if death {
            holder.child.kill_and_wait();
        } else {
            assert_eq!(holder.received(), 0);
        }
        successor.assert_holds(path);
        waiter.through();
    }
}

/// A file of root's is trusted for every caller. Whether the caller may signal the holder is up to the kernel.
#[test]
fn a_user_who_may_not_signal_the_holder_is_told_so_by_the_kernel() {
    if !is_root() {
        return skip("only root can become nobody");
    }
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let holder = Target::holder(path);
    let asker = fork(|| {
        assert_eq!(unsafe { libc::setgid(NOBODY) }, 0);
        assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
        let refused = signal(path, Signal::HUP).map(drop).unwrap_err();
        i32::from(refused.errno() != Some(Errno::NotPermitted))
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(holder.received(), 0);
}

/// A stranger to both the file and the holder. /proc hides the descriptors, and /proc/locks names a parent that has ended.
#[test]
fn a_user_who_may_not_signal_the_holder_of_another_users_file_is_told_so_by_the_kernel() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    chown(&scratch.directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let (ready, end) = (Pipe::new(), Pipe::new());
    let parent = fork(|| {
        become_nobody();
        let lock = PidLock::acquire(path).unwrap();
        let child = fork(|| {
            lock.restamp().unwrap();
            ready.send(lock.pid().get());
            end.receive();
            0
        });
        std::mem::forget((lock, child));
        0
    });
    let holder = pid(ready.receive());
    parent.wait();
    let asker = fork(|| {
        assert_eq!(unsafe { libc::setgid(NOBODY - 1) }, 0);
        assert_eq!(unsafe { libc::setuid(NOBODY - 1) }, 0);
        for number in ALL {
            let refused = signal(path, number).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::NotPermitted), "{number:?}: {refused}");
        }
        0
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(signal(path, Signal::CHECK), Ok(holder));
    end.send(0);
}

fn become_nobody() {
    assert_eq!(unsafe { libc::setgid(NOBODY) }, 0);
    assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0); // so that /proc says whose it is
}

/// As a daemon does: it acquires as root, and then becomes somebody else.
#[test]
fn a_holder_that_has_dropped_its_privileges_is_signalled_by_its_own_user() {
    if !is_root() {
        return skip("only root can become nobody");
    }
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let holder = Target::new(0, || {
        let lock = PidLock::acquire(path).unwrap();
        become_nobody();
        lock
    });
    let asker = fork(|| {
        become_nobody();
        i32::from(signal(path, Signal::HUP) != Ok(pid(holder.child.pid)))
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(holder.received(), 1);
}

/// Whether /proc shows us what other users have open: CAP_SYS_PTRACE, which root in Docker has not.
fn sees_others() -> bool {
    capabilities()[0] & SYS_PTRACE != 0
}

/// In this process, from now on it does not.
fn see_no_others() {
    let mut sets = capabilities();
    sets[..2].iter_mut().for_each(|set| *set &= !SYS_PTRACE); // effective and permitted
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, THIS_PROCESS.as_ptr(), sets.as_ptr()) }, 0);
}

/// `CAP_SYS_PTRACE` of linux/capability.h, and `_LINUX_CAPABILITY_VERSION_3` with the number of no other process.
const SYS_PTRACE: u32 = 1 << 19;
const THIS_PROCESS: [u32; 2] = [0x2008_0522, 0];

fn capabilities() -> [u32; 6] {
    let mut sets = [0; 6];
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, THIS_PROCESS.as_ptr(), sets.as_mut_ptr()) }, 0);
    sets
}

#[test]
fn a_holder_whose_descriptors_are_hidden_from_root_is_signalled() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let (roots, nobodys) = (scratch.path("roots"), scratch.path("nobodys"));
    let holder = Target::new(0, || {
        let locks = [roots, nobodys].map(|path| PidLock::acquire(path).unwrap());
        become_nobody();
        locks
    });
    chown(nobodys, Some(NOBODY), Some(NOBODY)).unwrap();
    let asker = fork(|| {
        see_no_others();
        let hidden = fs::read_link(format!("/proc/{}/fd/3", holder.child.pid)).unwrap_err();
        assert_eq!(hidden.kind(), std::io::ErrorKind::PermissionDenied);
        // /proc/locks names it, and /proc/PID/status says whose it is.
        assert_eq!(signal(roots, Signal::HUP), Ok(pid(holder.child.pid)));
        assert_eq!(signal(nobodys, Signal::USR1), Ok(pid(holder.child.pid))); // two of a kind would be one
        0
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(holder.received(), 2);
}

#[test]
fn a_holder_is_signalled_although_it_has_something_open_that_cannot_be_looked_at() {
    if !is_root() || !sees_others() {
        return skip("only root may mount, and see what others have open");
    }
    let scratch = Scratch::new();
    let (path, mounted) = (scratch.path("x.pid"), scratch.path("mounted"));
    chown(&scratch.directory, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::create_dir(mounted).unwrap();
    // A file system of a user who shows it to nobody else; and one whose server has died.
    for (user, error) in [(NOBODY, libc::EACCES), (0, libc::ENOTCONN)] {
        let (told, broken) = (Pipe::new(), Pipe::new());
        let holder = Target::new(0, || {
            let opened = private_mounts().then(|| open_on_fuse(mounted, user)).flatten();
            told.send(opened.is_some().into());
            broken.send(opened.as_ref().map_or(-1, |(file, _)| file.as_raw_fd()));
            let file = opened.map(|(file, server)| (file, (user == NOBODY).then_some(server)));
            become_nobody();
            (file, PidLock::acquire(path).unwrap())
        });
        if told.receive() == 0 {
            return skip("no FUSE to mount here");
        }
        let broken = fs::metadata(format!("/proc/{}/fd/{}", holder.child.pid, broken.receive()));
        assert_eq!(broken.unwrap_err().raw_os_error(), Some(error));
        assert_eq!(signal(path, Signal::HUP), Ok(pid(holder.child.pid)));
        assert_eq!(holder.received(), 1);
    }
}

/// The root of a new file system of a user, and the connection to its server, which never answers.
fn open_on_fuse(directory: &str, user: u32) -> Option<(fs::File, fs::File)> {
    let server = mount_fuse(directory, user)?;
    Some((fs::File::options().read(true).custom_flags(libc::O_PATH).open(directory).unwrap(), server))
}

fn mount_fuse(directory: &str, user: u32) -> Option<fs::File> {
    let server = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
    let target = CString::new(directory).unwrap();
    let options = format!("fd={},rootmode=40000,user_id={user},group_id={user}", server.as_raw_fd());
    let options = CString::new(options).unwrap();
    let kind = c"fuse".as_ptr();
    let mounted = unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()) } == 0;
    mounted.then_some(server)
}

/// A file system that a user shows to nobody else answers neither us nor root: it cannot have the file that we have open.
#[test]
fn a_lock_on_fuse_that_cannot_be_looked_at_is_neither_taken_for_the_lock_nor_in_its_way() {
    if !is_root() || !sees_others() {
        return skip("only root may mount, and see what others have open");
    }
    let scratch = Scratch::new();
    let (roots, nobodys, mounted) = (scratch.path("roots"), scratch.path("x.pid"), scratch.path("mounted"));
    chown(&scratch.directory, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::create_dir(mounted).unwrap();
    let told = Pipe::new();
    let holder = Target::new(0, || {
        let server = private_mounts().then(|| mount_fuse(mounted, NOBODY)).flatten();
        become_nobody();
        let locked = server.map(|server| (lock_on_fuse(mounted, &server), server)); // before the other: a lower number
        told.send(locked.is_some().into());
        (locked, PidLock::acquire(nobodys).unwrap())
    });
    if told.receive() == 0 {
        return skip("no FUSE to mount here");
    }
    assert_eq!(signal(nobodys, Signal::HUP), Ok(pid(holder.child.pid)));
    fs::write(roots, format!("{}\n", holder.child.pid)).unwrap(); // a file of root, whose number is another's by now
    let _locked = Inherited::new(roots);
    assert_all_refused(roots, NAMELESS);
    assert_eq!(holder.received(), 1);
}

/// A lock on the root of that file system, whose server answers twice: to the greeting, and that it may be opened.
fn lock_on_fuse(directory: &'static str, mut server: &fs::File) -> fs::File {
    let opened = std::thread::spawn(move || fs::File::open(directory).unwrap());
    let mut request = [0; 1 << 16];
    for (length, answer) in [(40, &[7, 9, 0, 0, 0, 0][..]), (32, &[0; 4])] {
        assert!(server.read(&mut request).unwrap() >= 40); // length, opcode, unique, ...: linux/fuse.h
        let words = [[length, 0].map(u32::to_ne_bytes).concat(), request[8..16].to_vec()];
        let words = [words.concat(), answer.iter().flat_map(|word| u32::to_ne_bytes(*word)).collect()];
        server.write_all(&words.concat()).unwrap();
    }
    let file = opened.join().unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    file
}

/// A lock of fcntl(2) on the same file is another lock.
#[test]
fn a_process_with_only_a_record_lock_is_not_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let holder = Target::holder(path);
    let named = Target::new(0, || {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK.try_into().unwrap();
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }, 0);
        file
    });
    fs::write(path, format!("{}\n", named.child.pid)).unwrap();
    assert_eq!(signal(path, Signal::HUP), Ok(pid(holder.child.pid)));
    assert_eq!((named.received(), holder.received()), (0, 1));
}

#[test]
fn the_processes_that_share_a_lock_are_counted_beyond_the_buffer() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    assert_eq!(sharers(path, &mut []), Ok(0));
    let lock = PidLock::acquire(path).unwrap();
    let child = Target::new(0, || fs::File::open(path).unwrap()); // has a copy of the lock
    let own = Some(lock.pid());
    let mut buffer = [None; 3];
    assert_eq!(sharers(path, &mut buffer), Ok(2));
    let mut expected = [own, Some(pid(child.child.pid))];
    expected.sort();
    assert_eq!(buffer, [expected[0], expected[1], None]);
    let mut buffer = [None];
    assert_eq!((sharers(path, &mut buffer), buffer), (Ok(2), [expected[0]]));
    assert_eq!(sharers(scratch.path(".").trim_end_matches("/."), &mut buffer), Err(Error::NotAPidFile));
}
