//! A lock has few descriptors. They are above 2, exec closes them, and none is leaked.

mod support;

use pidflock::{AsRawFd, Error, Holder, IntoRawFd, Pid, PidLock, Signal, State, Wait, probe, signal, wait_released};
use std::{fs, time::Duration};
use support::*;

/// The descriptors that are open now and were not before.
fn opened_since(before: &[i32]) -> Vec<i32> {
    descriptors().into_iter().filter(|fd| !before.contains(fd)).collect()
}

fn is_close_on_exec(fd: i32) -> bool {
    unsafe { libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

fn is_open(fd: i32) -> bool {
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

fn in_child(work: impl FnOnce()) {
    let work = || {
        work();
        0
    };
    assert_eq!(fork(work).wait(), End::Exit(0));
}

#[test]
fn a_lock_has_no_descriptor_below_three() {
    let scratch = Scratch::new();
    let path = scratch.path("new/directory/a.pid");
    for closed in 0..8 {
        in_child(|| {
            for fd in (0..3).filter(|fd| closed & (1 << fd) != 0) {
                unsafe { libc::close(fd) };
            }
            let before = descriptors();
            let lock = PidLock::acquire(path).unwrap();
            assert!(lock.as_raw_fd() > 2);
            let opened = opened_since(&before);
            assert!(opened.contains(&lock.as_raw_fd()));
            assert!(opened.iter().all(|fd| *fd > 2), "{opened:?}");
            assert_eq!(probe(path), Ok(State::Held { holder: Some(lock.pid()) }));

            let fd = lock.hand_over().unwrap();
            assert!(fd.as_raw_fd() > 2);
            assert_eq!(opened_since(&before), [fd.as_raw_fd()]);
            let lock = PidLock::adopt(fd, path).unwrap();
            assert!(opened_since(&before).iter().all(|fd| *fd > 2));
            lock.release().unwrap();
            assert_eq!(descriptors(), before);
        });
        fs::remove_dir_all(scratch.path("new")).unwrap();
    }
}

#[test]
fn an_adopted_descriptor_below_three_is_moved_up() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    for low in 0..3 {
        in_child(|| {
            let high = PidLock::acquire(path).unwrap().hand_over().unwrap().into_raw_fd();
            assert_eq!(unsafe { libc::dup2(high, low) }, low);
            unsafe { libc::close(high) };
            let fd = unsafe { <pidflock::OwnedFd as pidflock::FromRawFd>::from_raw_fd(low) };
            let lock = PidLock::adopt(fd, path).unwrap();
            assert!(lock.as_raw_fd() > 2);
            assert!(!is_open(low));
            assert!(is_locked(path));
            lock.release().unwrap();
        });
    }
}

#[test]
fn exec_closes_every_descriptor_of_a_lock_that_is_not_handed_over() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let before = descriptors();
    let lock = PidLock::acquire(path).unwrap();
    let opened = opened_since(&before);
    assert!(opened.iter().all(|fd| is_close_on_exec(*fd)), "{opened:?}");

    let fd = lock.hand_over().unwrap();
    assert!(!is_close_on_exec(fd.as_raw_fd()));
    let lock = PidLock::adopt(fd, path).unwrap();
    let opened = opened_since(&before);
    assert!(opened.iter().all(|fd| is_close_on_exec(*fd)), "{opened:?}");
    drop(lock);
    assert_eq!(descriptors(), before);
}

/// If a standard stream is closed, the descriptor is a moved copy, and exec must close that, too.
#[test]
fn exec_closes_a_descriptor_that_was_moved_up() {
    let scratch = Scratch::new();
    in_child(|| {
        unsafe { libc::close(0) };
        let before = descriptors();
        let _lock = PidLock::acquire(scratch.path("a.pid")).unwrap();
        assert!(opened_since(&before).iter().all(|fd| is_close_on_exec(*fd)));
    });
}

#[test]
fn no_way_to_end_a_lock_leaves_a_descriptor() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    type Way = fn(PidLock, &str);
    let ways: [(&str, Way); 7] = [
        ("release", |lock, _| lock.release().unwrap()),
        ("drop", |lock, _| drop(lock)),
        ("disown", |lock, _| lock.disown()),
        ("hand_over", |lock, _| drop(lock.hand_over().unwrap())),
        ("adopt", |lock, path| drop(PidLock::adopt(lock.hand_over().unwrap(), path).unwrap())),
        ("release of a removed file", |lock, path| {
            fs::remove_file(path).unwrap();
            lock.release().unwrap();
        }),
        ("release in a child", |lock, _| {
            in_child(|| {
                let held = lock.as_raw_fd();
                lock.release().unwrap();
                assert!(!is_open(held));
            });
        }),
    ];
    let before = descriptors();
    for (way, go) in ways {
        for _ in 0..3 {
            go(PidLock::acquire(path).unwrap(), path);
            assert_eq!(descriptors(), before, "{way}");
        }
    }
}

#[test]
fn a_query_leaves_no_descriptor() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let look = || {
        let before = descriptors();
        let _ = probe(path);
        let _ = pidflock::read_pid_from(path);
        let _ = signal(path, pidflock::Signal::CHECK);
        let _ = wait_released(path, Wait::Never);
        let _ = wait_released(path, Wait::For(Duration::from_millis(1)));
        assert_eq!(descriptors(), before);
    };
    look(); // no file
    fs::write(path, "4242\n").unwrap();
    look(); // a stale one
    let lock = PidLock::acquire(path).unwrap();
    look();
    let before = descriptors();
    assert_eq!(PidLock::acquire(path).unwrap_err(), Error::AlreadyLocked { holder: Some(lock.pid()) });
    assert_eq!(descriptors(), before);
}

/// A refused adoption leaves a descriptor open that is not the file at the path, and closes one that is.
#[test]
fn a_refused_adoption_closes_only_the_file_at_the_path() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("a.pid"), scratch.path("other.pid"));
    let fd = PidLock::acquire(path).unwrap().hand_over().unwrap();
    let number = fd.as_raw_fd();
    let _other = PidLock::acquire(other).unwrap();
    let before = descriptors();
    assert_eq!(PidLock::adopt(fd, other).unwrap_err(), Error::Replaced);
    assert_eq!(descriptors(), before);
    assert!(is_open(number) && is_locked(path));

    fs::hard_link(path, scratch.path("second")).unwrap();
    let fd = unsafe { <pidflock::OwnedFd as pidflock::FromRawFd>::from_raw_fd(number) };
    assert_eq!(PidLock::adopt(fd, path).unwrap_err(), Error::NotAPidFile);
    assert!(!is_open(number) && !is_locked(path));
}

#[cfg(feature = "std")]
#[test]
fn a_descriptor_that_could_not_be_stamped_is_not_adopted() {
    use pidflock::{Call, Errno, Error};
    use std::os::fd::AsRawFd;
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    fs::write(path, "").unwrap();
    let mut ways = [fs::File::options(), fs::File::options(), fs::File::options()];
    ways[0].read(true);
    ways[1].write(true);
    ways[2].read(true).append(true);
    for way in ways {
        let file = way.open(path).unwrap();
        let number = file.as_raw_fd();
        let refused = PidLock::adopt(file.into(), path).unwrap_err();
        assert_eq!(refused, Error::Sys { call: Call::Fcntl, errno: Errno::InvalidInput });
        assert!(is_open(number) && !is_locked(path));
        unsafe { libc::close(number) };
    }
}

/// Only what opens as 0, 1 or 2 is moved: with 3 free, the directory is 3 and the file 4.
#[test]
fn a_descriptor_above_the_standard_streams_stays_where_it_is() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let child = fork(|| {
        unsafe { libc::dup2(2, 0) };
        unsafe { libc::dup2(2, 1) };
        for fd in descriptors() {
            if fd > 2 {
                unsafe { libc::close(fd) };
            }
        }
        PidLock::acquire(path).unwrap().as_raw_fd()
    });
    assert_eq!(child.wait(), End::Exit(4));
}

/// A holder in another process, with this many open descriptors below its lock.
fn holder(path: &str, open: usize) -> Child {
    let ready = Pipe::new();
    let child = fork(|| {
        for _ in 0..open {
            assert_ne!(unsafe { libc::dup(2) }, -1);
        }
        let _lock = PidLock::acquire(path).unwrap();
        ready.send(0);
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.receive();
    child
}

/// A program that was started without standard streams may open /dev/null instead.
#[test]
fn a_holder_that_was_found_has_no_descriptor_below_three() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let holder = holder(path, 0);
    for closed in 0..8 {
        in_child(|| {
            let closed = (0..3).filter(|fd| closed & (1 << fd) != 0);
            closed.clone().for_each(|fd| assert_eq!(unsafe { libc::close(fd) }, 0));
            let before = descriptors();
            let found = Holder::find(path).unwrap();
            let opened = opened_since(&before);
            for fd in closed {
                let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
                assert_eq!(unsafe { libc::dup2(null, fd) }, fd);
            }
            assert_eq!(found.signal(Signal::CHECK), Ok(()), "{opened:?}");
            let refused = Error::AlreadyLocked { holder: Pid::new(holder.pid) };
            assert_eq!(found.wait(Wait::For(Duration::from_millis(1))), Err(refused));
            assert!(opened.iter().all(|fd| *fd > 2), "{opened:?}");
        });
    }
}

/// One getdents64 does not list them all, and the lock is in the last part. It was inherited, so only the descriptors show it.
#[test]
fn a_holder_with_hundreds_of_descriptors_is_signalled() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let launched = PidLock::acquire(path).unwrap();
    let ready = Pipe::new();
    let holder = fork(|| {
        // Above all others.
        let copy = unsafe { libc::fcntl(launched.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 500) };
        assert!(copy >= 500);
        for _ in 0..450 {
            assert_ne!(unsafe { libc::dup(2) }, -1);
        }
        launched.restamp().unwrap();
        unsafe { libc::close(launched.as_raw_fd()) };
        ready.send(0);
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.receive();
    assert_eq!(signal(path, Signal::CHECK), Ok(Pid::new(holder.pid).unwrap()));
    assert_eq!(signal(path, Signal::TERM), Ok(Pid::new(holder.pid).unwrap()));
    assert_eq!(holder.wait(), End::Signal(libc::SIGTERM));
    launched.disown();
}
