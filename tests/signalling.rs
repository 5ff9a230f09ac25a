//! A signal reaches the holder or nobody, and a wait for a holder waits for exactly that process.

mod support;

use pidflock::{
    Errno, Error, Holder, Pid, PidLock, Signal, State, Wait, probe, read_pid_from, sharers, signal, wait_released,
};
use std::{
    fs,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{PermissionsExt, chown},
    },
    time::Duration,
};
use support::*;

/// A user without rights. Not 65534, which means every user that a namespace does not map.
const NOBODY: u32 = OTHER;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// Held by an unknown process.
const NAMELESS: Error = Error::AlreadyLocked { holder: None };

fn pid(number: i32) -> Pid {
    Pid::new(number).unwrap()
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
        // Before a successor gives up, which would end the wait, too.
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

/// Returns once it is dead, and does not wait for it.
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
    // Even if the descriptors of init are hidden: /proc/locks names another process.
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

/// busybox start-stop-daemon -m writes the loser's PID over a held file before it tries.
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

/// The owner rule also holds for a process that the kernel names: a planted file that root locked directs no signal at root.
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
    // The kernel shows its PID here.
    let Ok(State::Held { holder: Some(number) }) = probe(path) else { panic!("{:?}", probe(path)) };
    assert_ne!(number, Pid::INIT);
    assert_eq!(signal(path, Signal::CHECK), Ok(number));
    // In a second one the PID is the caller's, which has the file open, too.
    let second = container(|| {
        assert_eq!(probe(path), Ok(State::Held { holder: None }));
        assert_all_refused(path, NAMELESS);
        0
    });
    assert_eq!(second.wait(), End::Exit(0));
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
        assert_eq!(signal(path, Signal::HUP), Ok(pid(planter.child.pid))); // it has the lock
        assert_eq!(planter.received(), 1);
    } else {
        assert_all_refused(path, Error::Untrusted);
        drop(planter);
    }
    // Even if the victim itself has the lock, because anybody may have written its PID.
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

    // But not at another process of that user.
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
fn a_successor_is_not_signalled_instead_of_the_holder_that_was_found() {
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
    // Even if the file is another user's: /proc does not show the user of a dead process.
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
fn a_wait_for_a_holder_ends_when_it_dies_or_releases() {
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
        // First in the queue, so the kernel gives it the lock before the waiter sees the file free.
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

/// Root's file is trusted for every caller. The kernel decides whether the caller may signal the holder.
#[test]
fn a_user_who_may_not_signal_the_holder_gets_the_error_of_the_kernel() {
    if !is_root() {
        return skip("only root can become nobody");
    }
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let holder = Target::holder(path);
    let asker = fork(|| {
        become_user([NOBODY; 3]);
        let refused = signal(path, Signal::HUP).map(drop).unwrap_err();
        i32::from(refused.errno() != Some(Errno::NotPermitted))
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(holder.received(), 0);
}

/// A stranger to both the file and the holder. /proc hides the descriptors, and /proc/locks names a parent that has ended.
#[test]
fn a_user_who_may_not_signal_the_holder_of_another_users_file_gets_the_error_of_the_kernel() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    chown(&scratch.directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let (ready, end) = (Pipe::new(), Pipe::new());
    let parent = fork(|| {
        become_user([NOBODY; 3]);
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

/// A daemon does this: it acquires as root, and then becomes another user.
#[test]
fn a_holder_that_has_dropped_its_privileges_is_signalled_by_its_own_user() {
    if !is_root() {
        return skip("only root can become nobody");
    }
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let holder = Target::new(0, || {
        let lock = PidLock::acquire(path).unwrap();
        become_user([NOBODY; 3]);
        lock
    });
    let asker = fork(|| {
        become_user([NOBODY; 3]);
        i32::from(signal(path, Signal::HUP) != Ok(pid(holder.child.pid)))
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(holder.received(), 1);
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
    if is_root() {
        without_sys_ptrace(|| assert_ne!(signal(path, Signal::CHECK), Ok(pid(named.child.pid))));
    }
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

/// What /proc shows about the processes that files name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proc {
    /// Their open files.
    All,
    /// The same, but for an outer PID namespace, in which PIDs mean other processes.
    Foreign,
    /// Only their users, without `CAP_SYS_PTRACE`, and which process took which lock.
    Locks,
    /// Only which process took which lock, and no processes: hidepid=2.
    Hidden,
    /// Neither processes nor locks.
    Silent,
    /// Processes of another PID namespace.
    Strange,
    /// It is empty.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    TheClaimed,
    Another,
    Nobody,
}

/// The caller: root, or a user who may signal any process, so that only the rule prevents it.
const ASKERS: [u32; 2] = [0, CALLER];

struct Cell {
    asker: u32,
    owner: u32,
    mode: u32,
    lock: Lock,
    /// The user of the claimed process. None if it is dead.
    claimed: Option<u32>,
    path: &'static str,
}

impl Cell {
    fn all(scratch: &Scratch, proc: Proc) -> Vec<Cell> {
        let mut cells = vec![];
        for asker in ASKERS {
            // Root's own files always belong to root.
            for owner in if asker == 0 { &[0, OTHER][..] } else { &[0, CALLER, OTHER] } {
                for mode in [0o644, 0o664, 0o666] {
                    for lock in [Lock::TheClaimed, Lock::Another, Lock::Nobody] {
                        for claimed in [Some(OTHER), Some(THIRD), None] {
                            if lock != Lock::TheClaimed || claimed.is_some() {
                                let path = scratch.path(&format!("{proc:?}{}", cells.len()));
                                cells.push(Cell { asker, owner: *owner, mode, lock, claimed, path });
                            }
                        }
                    }
                }
            }
        }
        cells
    }

    /// Whether root's other process is seen to have the lock, under its PID here. Then it is the holder, whatever the file
    /// claims.
    fn another_is_seen(&self, proc: Proc) -> bool {
        self.lock == Lock::Another && proc == Proc::All
    }

    /// Every reason to signal nobody. The result is one of them, or the holder if there is none.
    fn reasons(&self, proc: Proc) -> Vec<Error> {
        if self.lock == Lock::Nobody {
            return vec![Error::NotLocked];
        }
        // What the kernel shows: whether the process has the lock, and its user.
        let (has_lock, user) = if self.another_is_seen(proc) {
            (Some(true), Some(0))
        } else {
            let Some(user) = self.claimed else { return vec![NAMELESS] };
            let has_lock = match proc {
                Proc::All | Proc::Foreign | Proc::Locks => Some(self.lock == Lock::TheClaimed),
                // The PID of the process that took the lock is not enough: another process may have got it later.
                Proc::Hidden => (self.lock != Lock::TheClaimed).then_some(false),
                Proc::Silent | Proc::Strange | Proc::Nothing => None,
            };
            (has_lock, matches!(proc, Proc::All | Proc::Foreign | Proc::Locks).then_some(user))
        };
        let ours = self.owner == 0 || self.owner == self.asker;
        let entitled = ours || user == Some(self.owner);
        let written_by_others = !ours || self.mode & 0o022 != 0;
        let reasons = [
            (self.mode & 0o002 != 0, Error::Untrusted),
            (!entitled, Error::Untrusted),
            (has_lock == Some(false), NAMELESS),
            (has_lock.is_none() && written_by_others, Error::Untrusted),
        ];
        reasons.into_iter().filter(|(is_so, _)| *is_so).map(|(_, reason)| reason).collect()
    }
}

#[test]
fn evidence_decides_who_is_signalled_whatever_the_owner_the_mode_the_lock_the_claim_and_proc() {
    let scratch = Scratch::in_memory();
    if !may_make_namespaces() || !sees_others() {
        return skip("only root may make namespaces, and see what others have open");
    }
    let report = scratch.path("report");
    let wrong = fs::File::create(report).unwrap();
    for proc in [Proc::All, Proc::Foreign, Proc::Locks, Proc::Hidden, Proc::Silent, Proc::Strange, Proc::Nothing] {
        let cells = Cell::all(&scratch, proc);
        let look = || ask_in_each(&cells, proc, &wrong);
        in_private_mounts(|| if proc == Proc::Foreign { in_pid_namespace(look) } else { look() });
    }
    let wrong = fs::read_to_string(report).unwrap();
    assert!(wrong.is_empty(), "{} wrong answers:\n{wrong}", wrong.lines().count());
}

/// Writes a line about each answer that is wrong.
fn ask_in_each(cells: &[Cell], proc: Proc, mut wrong: &fs::File) {
    let dead = fork(|| 0);
    let dead_number = dead.pid;
    dead.wait();

    // A process of each user, with the locks of the cells that claim it, and another with the locks that it has instead.
    cells.iter().for_each(|cell| plant(cell.path, 0, 0o644, dead_number));
    let arrivals = Pipe::new();
    let target = |user: u32, locks: &dyn Fn(&Cell) -> bool| {
        Target::announcing(&arrivals, || {
            let files: Vec<fs::File> = cells.iter().filter(|cell| locks(cell)).map(|cell| lock(cell.path)).collect();
            become_user([user; 3]);
            files
        })
    };
    let users = [OTHER, THIRD];
    let claimed = users.map(|user| target(user, &|cell| cell.lock == Lock::TheClaimed && cell.claimed == Some(user)));
    let another = target(0, &|cell| cell.lock == Lock::Another);
    let number = |cell: &Cell| {
        let alive = users.iter().position(|user| cell.claimed == Some(*user));
        alive.map_or(dead_number, |index| claimed.get(index).unwrap().number())
    };
    cells.iter().for_each(|cell| plant(cell.path, cell.owner, cell.mode, number(cell)));

    let (accepted, end) = (Pipe::new(), Pipe::new());
    let _strange = arrange(proc, &end);
    let mut sent = 0;
    for asker in ASKERS {
        let child = fork(|| {
            if asker == 0 {
                assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
                assert_eq!(unsafe { libc::setgid(CALLER) }, 0); // from the group 0, hidepid hides nothing
            } else {
                become_user_with(asker, CAP_DAC_READ_SEARCH | CAP_KILL | CAP_SYS_PTRACE);
            }
            if matches!(proc, Proc::Locks | Proc::Hidden | Proc::Silent) {
                see_no_others();
            }
            let mut sent = 0;
            for cell in cells.iter().filter(|cell| cell.asker == asker) {
                let reasons = cell.reasons(proc);
                let expected = if cell.another_is_seen(proc) { another.number() } else { number(cell) };
                for asked in [Signal::CHECK, Signal::USR1] {
                    let answer = signal(cell.path, asked);
                    let mut right = match answer {
                        Ok(signalled) => reasons.is_empty() && signalled == pid(expected),
                        Err(error) => reasons.contains(&error),
                    };
                    if answer.is_ok() && asked != Signal::CHECK {
                        sent += 1;
                        right &= arrivals.receive() == expected;
                    }
                    if !right {
                        let Cell { asker, owner, mode, lock, claimed, .. } = cell;
                        let file = format!("asked by {asker}, file of {owner}, mode {mode:o}, locked by {lock:?}");
                        let case = format!("/proc shows {proc:?}, {file}, claims {claimed:?}, signal {asked:?}");
                        writeln!(wrong, "{case}: {answer:?}, not {reasons:?}").unwrap();
                    }
                }
            }
            accepted.send(sent);
            0
        });
        assert_eq!(child.wait(), End::Exit(0));
        sent += accepted.receive();
    }
    end.send(0);
    let received: i32 = claimed.into_iter().map(Target::received).sum();
    let unreported = received + another.received() - sent;
    if unreported != 0 {
        writeln!(wrong, "/proc shows {proc:?}: {unreported} signals that were not reported").unwrap();
    }
}

/// Makes /proc show no more than this. The caller gives up capabilities itself.
fn arrange(proc: Proc, end: &Pipe) -> Option<Child> {
    match proc {
        Proc::All | Proc::Foreign | Proc::Locks => {}
        Proc::Hidden => assert!(mount(c"proc", c"/proc", c"hidepid=2")),
        Proc::Silent => assert!(mount(c"proc", c"/proc", c"hidepid=2,subset=pid")),
        Proc::Nothing => assert!(mount(c"tmpfs", c"/proc", c"")),
        Proc::Strange => {
            let mounted = Pipe::new();
            let strange = fork(|| {
                in_pid_namespace(|| {
                    assert!(mount(c"proc", c"/proc", c""));
                    mounted.send(0);
                    end.receive();
                });
                0
            });
            mounted.receive();
            return Some(strange);
        }
    }
    None
}
