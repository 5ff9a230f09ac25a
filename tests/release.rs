//! No process removes, empties or unlocks what another owns.

mod support;

use pidflock::{Call, Errno, Error, Pid, PidLock, Wait};
use std::{
    ffi::CString,
    fs::{self, File},
    mem::ManuallyDrop,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    panic::resume_unwind, // panics without a message
    path::Path,
    time::Duration,
};
use support::*;

/// The exit code of a child that lacks the rights for its test.
const UNABLE: i32 = 77;

fn acquire(path: &str) -> PidLock {
    PidLock::acquire(path).unwrap()
}

/// Acquires a lock whose release leaves the file behind.
fn acquire_to_keep(path: &str) -> PidLock {
    PidLock::options().remove_on_release(false).acquire(path).unwrap()
}

type Way = (&'static str, fn(PidLock));

/// The ways in which an owner releases.
const LET_GO: [Way; 2] = [("release", |lock| lock.release().unwrap()), ("drop", drop)];

/// The ways in which a former owner closes.
const CLOSE: [Way; 3] = [LET_GO[0], LET_GO[1], ("disown", PidLock::disown)];

fn me() -> i32 {
    std::process::id() as i32
}

fn pid(number: i32) -> Pid {
    Pid::new(number).unwrap()
}

fn content(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

#[track_caller]
fn assert_held_by(path: &str, holder: i32) {
    assert!(is_locked(path), "not locked");
    assert_eq!(content(path), format!("{holder}\n"));
}

#[track_caller]
fn assert_empty_and_free(path: &str) {
    assert!(!is_locked(path), "locked");
    assert_eq!(content(path), "");
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Waits for a child that makes its own assertions, or reports that it lacks rights.
#[track_caller]
fn assert_well(child: Child) {
    match child.wait() {
        End::Exit(UNABLE) => skip("this root may not mount"),
        end => assert_eq!(end, End::Exit(0)),
    }
}

/// A child that holds `path` until it is killed.
fn holder(path: &'static str) -> Child {
    let ready = Pipe::new();
    let child = fork(|| {
        let _lock = acquire(path);
        ready.send(0);
        loop {
            unsafe { libc::pause() };
        }
    });
    ready.receive();
    child
}

// One process.

#[test]
fn release_and_drop_remove_the_file_free_the_lock_and_close() {
    let scratch = Scratch::new();
    for (way, let_go) in LET_GO {
        let path = scratch.path(way);
        let before = descriptors();
        let lock = acquire(path);
        assert_held_by(path, me());
        let file = File::open(path).unwrap();
        let_go(lock);
        assert!(!exists(path), "{way}");
        // A process that waits for the removed file instead of the name must wake up as well.
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0, "{way}");
        drop(file);
        assert_eq!(descriptors(), before, "{way}");
        acquire(path).release().unwrap();
    }
}

#[test]
fn a_release_that_keeps_the_file_leaves_it_empty_and_free() {
    let scratch = Scratch::new();
    for (way, let_go) in LET_GO {
        let path = scratch.path(way);
        let before = descriptors();
        let lock = acquire_to_keep(path);
        assert_held_by(path, me());
        let_go(lock);
        assert_empty_and_free(path);
        assert_eq!(descriptors(), before, "{way}");
        acquire(path).release().unwrap();
    }
}

#[test]
fn disown_only_closes() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let before = descriptors();
    acquire(path).disown();
    assert_eq!(content(path), format!("{}\n", me()));
    assert!(!is_locked(path));
    assert_eq!(descriptors(), before);
}

// Parent and child.

#[test]
fn a_forked_child_neither_frees_nor_removes_its_parents_lock() {
    type Work = fn(PidLock) -> i32;
    let ways: [(&str, Work, End); 6] = [
        ("drops", |_| 0, End::Exit(0)),
        ("releases", |lock| lock.release().is_err().into(), End::Exit(0)),
        ("disowns", |lock| (lock.disown(), 0).1, End::Exit(0)),
        ("exits", |lock| (std::mem::forget(lock), 0).1, End::Exit(0)),
        ("panics", |_lock| resume_unwind(Box::new(())), End::Exit(PANICKED)),
        ("is killed", |_lock| unsafe { libc::raise(libc::SIGKILL) }, End::Signal(libc::SIGKILL)),
    ];
    let scratch = Scratch::new();
    for (way, work, end) in ways {
        for keep in [false, true] {
            let path = scratch.path(way);
            let mut lock = Some(PidLock::options().remove_on_release(!keep).acquire(path).unwrap());
            assert_eq!(fork(|| work(lock.take().unwrap())).wait(), end, "{way}");
            assert_held_by(path, me());

            fs::write(path, "").unwrap(); // another program emptied it: it names no owner now
            assert_eq!(fork(|| work(lock.take().unwrap())).wait(), end, "{way}");
            assert!(is_locked(path), "{way}");
            lock.unwrap().release().unwrap();
            assert_eq!(exists(path), keep, "{way}");
        }
    }
}

#[test]
fn a_child_that_restamps_takes_over_and_the_parents_copy_only_closes() {
    let scratch = Scratch::new();
    for (way, let_go) in CLOSE {
        for keep in [false, true] {
            let path = scratch.path(way);
            let (restamped, go_on) = (Pipe::new(), Pipe::new());
            let before = descriptors();
            let mut lock = Some(PidLock::options().remove_on_release(!keep).acquire(path).unwrap());
            let child = fork(|| {
                let lock = lock.take().unwrap();
                assert_ne!(lock.pid(), pid(me()), "the child names itself before it restamps");
                lock.restamp().unwrap();
                restamped.send(lock.pid().get());
                go_on.receive();
                lock.release().unwrap();
                0
            });
            assert_eq!(restamped.receive(), child.pid);
            assert_held_by(path, child.pid);
            let lock = lock.unwrap();
            assert_eq!(lock.pid(), pid(me()));
            let_go(lock);
            assert_held_by(path, child.pid);
            assert_eq!(descriptors(), before, "{way}");
            go_on.send(0);
            assert_well(child);
            if keep { assert_empty_and_free(path) } else { assert!(!exists(path), "{way}") }
        }
    }
}

#[test]
fn a_child_takes_over_what_its_parent_has_disowned() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let (disowned, restamped, go_on) = (Pipe::new(), Pipe::new(), Pipe::new());
    let mut lock = Some(acquire(path));
    let child = fork(|| {
        let lock = lock.take().unwrap();
        disowned.receive();
        lock.restamp().unwrap();
        restamped.send(lock.pid().get());
        go_on.receive();
        lock.release().unwrap();
        0
    });
    lock.unwrap().disown();
    assert_held_by(path, me()); // the child's copy has the lock, and the child has not stamped yet
    disowned.send(0);
    assert_eq!(restamped.receive(), child.pid);
    assert_held_by(path, child.pid);
    go_on.send(0);
    assert_well(child);
    assert!(!exists(path));
}

#[test]
fn a_parent_takes_back_what_its_child_has_taken_over() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let lock = acquire(path);
    assert_well(fork(|| {
        lock.restamp().unwrap();
        0
    }));
    lock.restamp().unwrap();
    assert_eq!(lock.pid(), pid(me()));
    assert_held_by(path, me());
    lock.release().unwrap();
    assert!(!exists(path));
}

/// Releases in the parent, calls `meanwhile`, and returns the child's result of the restamp that follows: 0, or the PID of the
/// holder in its way, or a negative number.
fn restamp_after_release(lock: PidLock, meanwhile: impl FnOnce()) -> (Child, i32) {
    let (released, result, go_on) = (Pipe::new(), Pipe::new(), Pipe::new());
    let mut lock = Some(lock);
    let child = fork(|| {
        let lock = lock.take().unwrap();
        released.receive();
        result.send(match lock.restamp() {
            Ok(()) => 0,
            Err(Error::AlreadyLocked { holder: Some(holder) }) => holder.get(),
            Err(Error::Replaced) => -1,
            Err(_) => -2,
        });
        go_on.receive();
        0
    });
    lock.unwrap().release().unwrap();
    meanwhile();
    released.send(0);
    let result = result.receive();
    (child, result)
}

#[test]
fn a_restamp_after_the_parents_release_fails_with_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let (_child, result) = restamp_after_release(acquire(path), || {});
    assert_eq!(result, -1);
    assert!(!exists(path));
    let (_child, result) = restamp_after_release(acquire(path), || fs::write(path, "another").unwrap());
    assert_eq!(result, -1);
    assert_eq!(content(path), "another");
    assert!(!is_locked(path));
}

#[test]
fn a_child_retakes_a_kept_file_that_its_parent_has_released() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let (child, result) = restamp_after_release(acquire_to_keep(path), || assert_empty_and_free(path));
    assert_eq!(result, 0);
    assert_held_by(path, child.pid);
}

#[test]
fn a_child_that_restamps_is_refused_where_another_has_the_lock_meanwhile() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let mut successor = None;
    let (_child, result) = restamp_after_release(acquire_to_keep(path), || successor = Some(holder(path)));
    let successor = successor.unwrap();
    assert_eq!(result, successor.pid);
    assert_held_by(path, successor.pid);
}

#[test]
fn a_copy_of_the_descriptor_in_a_child_does_not_keep_a_released_lock() {
    let scratch = Scratch::new();
    for (way, let_go) in LET_GO {
        let never = Pipe::new();
        // The next process gets the kept file only if the lock is gone.
        let path = scratch.path(way);
        let lock = acquire_to_keep(path);
        let _child = fork(|| never.receive());
        let_go(lock);
        let next = holder(path);
        assert_held_by(path, next.pid);
        next.kill_and_wait();

        // The removed file: its waiters and probers must find it free.
        let lock = acquire(path);
        let file = File::open(path).unwrap();
        let _child = fork(|| never.receive());
        let_go(lock);
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0, "{way}");
    }
}

// Another program changes the name.

#[test]
fn a_late_release_leaves_a_file_that_was_renamed_over_it_alone() {
    let scratch = Scratch::new();
    for (way, let_go) in CLOSE {
        let path = scratch.path(way);
        let lock = acquire(path);
        assert_eq!(lock.is_current(), Ok(true));
        let other = scratch.path("other");
        fs::write(other, "another").unwrap();
        fs::rename(other, path).unwrap();
        assert_eq!(lock.is_current(), Ok(false));
        assert_eq!(lock.restamp(), Err(Error::Replaced));
        let_go(lock);
        assert_eq!(content(path), "another");
    }
}

#[test]
fn a_late_release_leaves_the_file_and_the_lock_of_a_successor_alone() {
    let scratch = Scratch::new();
    for (way, let_go) in CLOSE {
        for renamed in [false, true] {
            let path = scratch.path(way);
            let lock = acquire(path);
            assert_eq!(lock.is_current(), Ok(true));
            let successor = if renamed {
                let other = scratch.path("other");
                let successor = holder(other);
                fs::rename(other, path).unwrap();
                successor
            } else {
                fs::remove_file(path).unwrap();
                holder(path)
            };
            assert_eq!(lock.is_current(), Ok(false));
            assert_eq!(lock.restamp(), Err(Error::Replaced));
            assert_held_by(path, successor.pid);
            let_go(lock);
            assert_held_by(path, successor.pid);
        }
    }
}

/// A child took over and released. Another process has the kept file now, and has not stamped it.
#[test]
fn a_late_release_leaves_a_successor_without_a_claim_alone() {
    let scratch = Scratch::new();
    for (way, let_go) in CLOSE {
        let path = scratch.path(way);
        let mut lock = Some(acquire_to_keep(path));
        assert_well(fork(|| {
            let lock = lock.take().unwrap();
            lock.restamp().unwrap();
            lock.release().unwrap();
            0
        }));
        assert_empty_and_free(path);
        let successor = File::options().write(true).open(path).unwrap();
        assert_eq!(unsafe { libc::flock(successor.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
        fs::write(path, "no claim").unwrap();
        let_go(lock.unwrap());
        assert_eq!(content(path), "no claim", "{way}");
        assert!(is_locked(path), "{way}");
    }
}

/// A child took over and released. This process has acquired the kept file again, so the claim is its PID.
#[test]
fn a_late_release_leaves_a_later_lock_of_the_same_process_alone() {
    let scratch = Scratch::new();
    for (way, let_go) in CLOSE {
        let path = scratch.path(way);
        let mut first = Some(acquire_to_keep(path));
        assert_well(fork(|| {
            let lock = first.take().unwrap();
            lock.restamp().unwrap();
            lock.release().unwrap();
            0
        }));
        assert_empty_and_free(path);
        let second = acquire(path);
        let_go(first.unwrap());
        assert_held_by(path, me());
        assert_eq!(second.is_current(), Ok(true), "{way}");
        second.release().unwrap();
        assert!(!exists(path), "{way}");
    }
}

#[test]
fn an_unlinked_file_is_not_current_and_its_release_succeeds() {
    let scratch = Scratch::new();
    for keep in [false, true] {
        let path = scratch.path("pid");
        let before = descriptors();
        let lock = PidLock::options().remove_on_release(!keep).acquire(path).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(lock.is_current(), Ok(false));
        assert_eq!(lock.restamp(), Err(Error::Replaced));
        assert_eq!(lock.release(), Ok(()));
        assert!(!exists(path));
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn a_symbolic_link_that_replaced_the_file_is_left_alone() {
    let scratch = Scratch::new();
    let (path, moved) = (scratch.path("pid"), scratch.path("moved"));
    let lock = acquire(path);
    fs::rename(path, moved).unwrap();
    std::os::unix::fs::symlink(moved, path).unwrap();
    assert_eq!(lock.is_current(), Ok(false));
    lock.release().unwrap();
    assert_eq!(fs::read_link(path).unwrap(), Path::new(moved));
    assert!(!is_locked(moved));
}

// The system refuses the removal.

fn refused(call: Call, errno: Errno) -> Result<(), Error> {
    Err(Error::Sys { call, errno })
}

/// In a forked child: becomes nobody, for good.
fn drop_privileges() {
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    assert_eq!(unsafe { libc::setgid(65534) }, 0);
    assert_eq!(unsafe { libc::setuid(65534) }, 0);
}

#[test]
fn a_release_without_the_privilege_to_remove_empties_and_unlocks() {
    if !is_root() {
        return skip("only root has privileges to drop");
    }
    let scratch = Scratch::new();
    for (mode, call) in [(0o755, Call::Unlinkat), (0o700, Call::Fstatat)] {
        let directory = scratch.path(&format!("{mode:o}"));
        let path = scratch.path(&format!("{mode:o}/pid"));
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        assert_well(fork(|| {
            let lock = acquire(path);
            drop_privileges();
            assert_eq!(lock.release(), refused(call, Errno::PermissionDenied));
            0
        }));
        assert_empty_and_free(path);
    }
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) {
    let [source, target, kind] = [source, target, kind].map(|text| CString::new(text).unwrap());
    let mounted = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null::<libc::c_void>())
    };
    assert_eq!(mounted, 0, "mount {target:?}: {}", std::io::Error::last_os_error());
}

#[test]
fn a_release_on_a_read_only_mount_empties_and_frees() {
    if !is_root() {
        return skip("only root may mount");
    }
    let scratch = Scratch::new();
    let (writable, read_only) = (scratch.path("writable"), scratch.path("read-only"));
    fs::create_dir(writable).unwrap();
    fs::create_dir(read_only).unwrap();
    assert_well(fork(|| {
        if !private_mounts() {
            return UNABLE;
        }
        mount("none", writable, "tmpfs", 0);
        mount(writable, read_only, "", libc::MS_BIND);
        mount("none", read_only, "", libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY);
        // No mount becomes read-only while a file is open for writing *through it*. So the lock uses one mount, and its name
        // is looked up in the other.
        let (path, by_name) = (format!("{writable}/pid"), format!("{read_only}/pid"));
        let lock = PidLock::adopt(acquire(&path).hand_over().unwrap(), by_name.as_str()).unwrap();
        assert_held_by(&path, me());
        assert_eq!(lock.release(), refused(Call::Unlinkat, Errno::ReadOnlyFilesystem));
        assert_empty_and_free(&path);
        0
    }));
}

#[test]
fn a_release_of_a_file_that_became_immutable_or_append_only_unlocks_and_reports_it() {
    let scratch = Scratch::new();
    for (attribute, keep, call) in [
        (IMMUTABLE, false, Call::Unlinkat),
        (IMMUTABLE, true, Call::Ftruncate),
        (APPEND_ONLY, false, Call::Unlinkat),
        (APPEND_ONLY, true, Call::Ftruncate),
    ] {
        let path = scratch.path("pid");
        let before = descriptors();
        let lock = PidLock::options().remove_on_release(!keep).acquire(path).unwrap();
        let Some(attribute) = Attribute::set(path, attribute) else {
            return skip("needs a file system with attributes, and the right to set them");
        };
        assert_eq!(lock.release(), refused(call, Errno::NotPermitted));
        assert!(!is_locked(path));
        assert_eq!(content(path), format!("{}\n", me())); // it cannot be emptied
        assert_eq!(descriptors(), before);
        drop(attribute);
        acquire(path).release().unwrap();
    }
}

// A process that outlives the owner.

/// Forks an owner that acquires, forks a process with a copy of its lock, and dies. Returns the exit code of that process.
fn outlive(path: &'static str, keep: bool, work: impl Fn(PidLock, i32) -> i32) -> End {
    let (heir, go) = (Pipe::new(), Pipe::new());
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let owner = fork(|| {
        // The owner does not drop it.
        let lock = ManuallyDrop::new(if keep { acquire_to_keep(path) } else { acquire(path) });
        let owner = me();
        let child = fork(|| {
            go.receive();
            work(unsafe { std::ptr::read(&*lock) }, owner)
        });
        heir.send(child.pid);
        std::mem::forget(child);
        unsafe { libc::_exit(0) }
    });
    let child = heir.receive();
    owner.wait();
    go.send(0);
    wait_for(child)
}

#[test]
fn the_last_sharer_of_a_lock_removes_the_file_of_the_dead_owner() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let ended = outlive(path, false, |lock, owner| {
        assert_held_by(path, owner);
        lock.release_if_last(Wait::Never).unwrap();
        0
    });
    assert_eq!(ended, End::Exit(0));
    assert!(!exists(path));
    let ended = outlive(path, true, |lock, _| lock.release_if_last(Wait::Never).is_err().into());
    assert_eq!(ended, End::Exit(0));
    assert_empty_and_free(path);
}

#[test]
fn a_sharer_that_is_not_the_last_only_closes() {
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let lock = acquire(path);
    for wait in [Wait::Never, Wait::For(Duration::from_millis(50))] {
        let copy = fork(|| {
            let number = pidflock::AsRawFd::as_raw_fd(&lock);
            // `lock` is this process's copy, as after any fork.
            let copy = unsafe { std::ptr::read(&raw const lock) };
            copy.release_if_last(wait).unwrap();
            assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1);
            unsafe { libc::_exit(0) }
        });
        assert_eq!(copy.wait(), End::Exit(0));
        assert_held_by(path, me());
    }
    lock.release().unwrap();
}

#[test]
fn a_process_that_outlives_the_owner_leaves_a_successor_and_its_file_alone() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("x.pid"), scratch.path("other"));
    let ended = outlive(path, false, |lock, owner| {
        // A successor that looks the same, but has another file, name or claim.
        fs::rename(path, other).unwrap();
        let successor = acquire(path);
        fs::write(path, format!("{owner}\n")).unwrap();
        lock.release_if_last(Wait::Never).unwrap();
        assert_held_by(path, owner);
        successor.disown();
        0
    });
    assert_eq!(ended, End::Exit(0));
    assert!(exists(path) && exists(other));
    // Free, with the same PID, but another file.
    let ended = outlive(path, false, |lock, owner| {
        fs::rename(path, other).unwrap();
        fs::write(path, format!("{owner}\n")).unwrap();
        lock.release_if_last(Wait::Never).unwrap();
        0
    });
    assert_eq!(ended, End::Exit(0));
    assert!(exists(path));
    // The same file with another claim.
    let ended = outlive(path, false, |lock, _| {
        fs::write(path, "2147483647\n").unwrap();
        lock.release_if_last(Wait::Never).unwrap();
        0
    });
    assert_eq!(ended, End::Exit(0));
    assert_eq!(content(path), "2147483647\n");
    assert!(!is_locked(path));
}

#[test]
fn a_process_that_outlives_the_owner_leaves_another_file_of_the_same_claim_alone() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let lock = PidLock::options().remove_on_release(false).acquire(path).unwrap();
    let claim = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, &claim).unwrap();
    lock.release_if_last(Wait::Never).unwrap();
    assert_eq!(fs::read(path).unwrap(), claim);
    assert!(!is_locked(path));
}
