//! Never two holders of one name, however many processes come and go.

mod support;

use pidflock::{Error, PidLock, Wait};
use std::{
    ffi::CString,
    io,
    time::{Duration, Instant},
};
use support::*;

const PROCESSES: usize = 4;
const TIME: Duration = Duration::from_millis(1500);

/// A process that met another holder sends this.
const TWO_HOLDERS: i32 = -1;

/// Creates a file that must not exist, and removes it: fails if another holder does the same at the same time.
fn is_alone(marker: &CString) -> bool {
    let fd = unsafe { libc::open(marker.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC, 0o600) };
    if fd == -1 {
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EEXIST));
        return false;
    }
    // Gives the others time on a machine with few processors, so that a second holder is noticed.
    unsafe { libc::sched_yield() };
    assert_eq!(unsafe { libc::unlink(marker.as_ptr()) }, 0);
    unsafe { libc::close(fd) };
    true
}

/// Acquires and releases for `TIME`: returns how often it had the name.
fn come_and_go(path: &str, marker: &CString, wait: Wait, remove: bool) -> i32 {
    let options = PidLock::options().sync(false).wait(wait).remove_on_release(remove);
    let (start, mut acquired) = (Instant::now(), 0);
    // Until the time is over and it had the name at least once, because no process is kept out for good.
    while start.elapsed() < TIME || acquired == 0 {
        match options.acquire(path) {
            Ok(lock) => {
                if !is_alone(marker) {
                    return TWO_HOLDERS;
                }
                lock.release().unwrap();
                acquired += 1;
            }
            Err(Error::AlreadyLocked { .. }) => {}
            Err(error) => panic!("{wait:?}: {error}"),
        }
    }
    acquired
}

fn never_two(kinds: [(Wait, bool); PROCESSES]) {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let marker = CString::new(scratch.path("marker")).unwrap();
    let result = Pipe::new();
    let children = kinds.map(|(wait, remove)| {
        fork(|| {
            result.send(come_and_go(path, &marker, wait, remove));
            0
        })
    });
    // A process that hangs sends nothing, and `receive` panics.
    let acquired = [(); PROCESSES].map(|()| result.receive());
    assert!(!acquired.contains(&TWO_HOLDERS), "two holders at once");
    assert_eq!(children.map(Child::wait), [End::Exit(0); PROCESSES]);
    drop(PidLock::acquire(path).unwrap());
}

#[test]
fn never_two_holders_of_one_name() {
    never_two([(Wait::Never, true); PROCESSES]);
}

/// A waiter in flock(2) wakes with the lock on a file that its holder just removed.
#[test]
fn never_two_holders_among_those_who_wait() {
    let (now, soon) = (Wait::Never, Wait::For(Duration::from_millis(20)));
    never_two([(Wait::Forever, true), (Wait::Forever, true), (soon, true), (now, true)]);
}

#[test]
fn never_two_holders_where_some_leave_the_file_behind() {
    let (now, soon) = (Wait::Never, Wait::For(Duration::from_millis(20)));
    never_two([(Wait::Forever, false), (now, true), (soon, false), (now, true)]);
}
