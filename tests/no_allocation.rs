//! No operation allocates, so every operation may be used between `fork` and `exec`.

mod support;

use pidflock::{Error, PidLock, Signal, State, Wait, probe, read_pid, read_pid_from, sharers, signal, wait_released};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt::{self, Write},
    fs,
    time::Duration,
};
use support::*;

thread_local! {
    /// Only of this thread, because the test harness allocates in others.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn without_allocating<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let before = ALLOCATIONS.get();
    let result = work();
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(allocations, 0, "{what} allocates");
    result
}

/// Room for a message.
struct Text([u8; 128], usize);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.1 + text.len();
        self.0.get_mut(self.1..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.1 = end;
        Ok(())
    }
}

#[test]
fn an_allocation_would_be_counted() {
    let _scratch = Scratch::new();
    let before = ALLOCATIONS.get();
    let mut numbers = std::hint::black_box(vec![1]);
    numbers.reserve(1000);
    assert_eq!(ALLOCATIONS.get() - before, 2);
}

#[test]
fn no_operation_allocates() {
    let scratch = Scratch::new();
    let path = scratch.path("new/directory/a.pid");
    assert_eq!(without_allocating("probe (no file)", || probe(path)), Ok(State::Absent));
    assert_eq!(without_allocating("read_pid_from (no file)", || read_pid_from(path)), Ok(None));
    assert_eq!(without_allocating("wait_released (no file)", || wait_released(path, Wait::Forever)), Ok(()));
    assert_eq!(without_allocating("signal (no file)", || signal(path, Signal::CHECK)), Err(Error::NotLocked));

    let lock = without_allocating("acquire (no directory)", || PidLock::acquire(path)).unwrap();
    let pid = lock.pid();
    assert_eq!(without_allocating("pid", || lock.pid()), pid);
    assert_eq!(without_allocating("restamp", || lock.restamp()), Ok(()));
    assert_eq!(without_allocating("is_current", || lock.is_current()), Ok(true));
    assert_eq!(without_allocating("read_pid", || read_pid(&lock)), Ok(Some(pid)));
    assert_eq!(without_allocating("read_pid_from", || read_pid_from(path)), Ok(Some(pid)));
    assert_eq!(without_allocating("sharers", || sharers(path, &mut [None; 4])), Ok(1));
    assert_eq!(without_allocating("probe (held)", || probe(path)), Ok(State::Held { holder: Some(pid) }));
    assert_eq!(without_allocating("signal", || signal(path, Signal::CHECK)), Ok(pid));

    let held = Error::AlreadyLocked { holder: Some(pid) };
    let soon = Wait::For(Duration::from_millis(5));
    assert_eq!(without_allocating("wait_released (held)", || wait_released(path, soon)), Err(held));
    assert_eq!(without_allocating("acquire (held)", || PidLock::acquire(path)).unwrap_err(), held);
    let waiting = PidLock::options().wait(soon);
    assert_eq!(without_allocating("acquire (waiting)", || waiting.acquire(path)).unwrap_err(), held);

    let fd = without_allocating("hand_over", || lock.hand_over()).unwrap();
    let lock = without_allocating("adopt", || PidLock::adopt(fd, path)).unwrap();
    without_allocating("release", || lock.release()).unwrap();

    let lock = PidLock::acquire(path).unwrap();
    without_allocating("disown", || lock.disown());
    assert_eq!(without_allocating("probe (stale)", || probe(path)), Ok(State::Free { stale: Some(pid) }));
    assert_eq!(without_allocating("wait_released (stale)", || wait_released(path, Wait::Never)), Ok(()));
    fs::write(path, [b'x'; 1000]).unwrap();
    let lock = without_allocating("acquire (foreign content)", || PidLock::acquire(path)).unwrap();
    without_allocating("drop", || drop(lock));
    assert_eq!(without_allocating("acquire (refused)", || PidLock::acquire("/")).unwrap_err(), Error::InvalidPath);
}

#[test]
fn printing_an_error_does_not_allocate() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let lock = PidLock::acquire(path).unwrap();
    let errors = [
        (PidLock::acquire(path).unwrap_err(), format!("already locked by process {}", lock.pid())),
        (probe(scratch.path("a.pid/b")).unwrap_err(), "openat: not a directory".to_owned()),
        (probe(scratch.path("")).unwrap_err(), "not the path of a file".to_owned()),
    ];
    for (error, expected) in errors {
        let text = without_allocating("Display", || {
            let mut text = Text([0; 128], 0);
            write!(text, "{error}").map(|()| text)
        })
        .unwrap();
        assert_eq!(&text.0[..text.1], expected.as_bytes());
    }
}
