//! Every failure gives one clear error and leaks no descriptor, no lock and no half-made file. All failures here are real.

mod support;

use pidflock::{AsRawFd, Call, Errno, Error, FromRawFd, OwnedFd, Pid, PidLock, Signal, State};
use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chroot},
    process::{Command, Stdio},
};
use support::*;

/// The exit code of a child that lacks the rights for its test.
const UNABLE: i32 = 77;

/// Runs this with its assertions in a forked child, which can change its limits, user and mounts.
#[track_caller]
fn apart(work: impl FnOnce()) {
    assert_eq!(fork(|| (work(), 0).1).wait(), End::Exit(0));
}

/// The same with separate mounts, if that is allowed.
#[track_caller]
fn apart_with_mounts(work: impl FnOnce()) {
    if !is_root() {
        return skip("only root may mount");
    }
    match fork(|| if private_mounts() { (work(), 0).1 } else { UNABLE }).wait() {
        End::Exit(UNABLE) => skip("this root may not mount"),
        end => assert_eq!(end, End::Exit(0)),
    }
}

fn me() -> i32 {
    std::process::id() as i32
}

fn names_me() -> String {
    format!("{}\n", me())
}

fn content(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

/// What is in a directory.
fn listing(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Expects this failure of an acquire, and that it leaves no descriptor behind.
#[track_caller]
fn assert_fails(path: &str, call: Call, errno: Errno) {
    let before = descriptors();
    assert_eq!(PidLock::acquire(path).map(drop), Err(Error::Sys { call, errno }), "{path}");
    assert_eq!(descriptors(), before, "{path}");
}

/// Expects that the name is free: acquires and releases it.
#[track_caller]
fn assert_works(path: &str) {
    let lock = PidLock::acquire(path).unwrap();
    assert_eq!(content(path), names_me());
    lock.release().unwrap();
    assert!(fs::symlink_metadata(path).is_err(), "still there after the release");
}

// Limits of the process.

/// Sets the soft limit, and returns the old one.
fn limit(resource: libc::c_int, soft: libc::rlim_t) -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    assert_eq!(unsafe { libc::getrlimit(resource as _, &raw mut limit) }, 0);
    let before = std::mem::replace(&mut limit.rlim_cur, soft);
    assert_eq!(unsafe { libc::setrlimit(resource as _, &raw const limit) }, 0);
    before
}

/// Runs this under a file-size limit of this many bytes. A write beyond it fails, and kills no process.
fn under_file_size<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let before = limit(libc::RLIMIT_FSIZE as _, bytes as libc::rlim_t);
    let result = work();
    limit(libc::RLIMIT_FSIZE as _, before);
    result
}

/// Opens files until all numbers below the highest open descriptor are used, and returns the first free one.
fn fill_holes() -> libc::rlim_t {
    let highest = *descriptors().last().unwrap();
    loop {
        let next = unsafe { libc::dup(2) };
        assert_ne!(next, -1);
        if next > highest {
            unsafe { libc::close(next) };
            return next as libc::rlim_t;
        }
    }
}

/// Acquires while only this many descriptors are free.
fn acquire_with_free_descriptors(path: &str, free: libc::rlim_t) -> Result<PidLock, Error> {
    let used = fill_holes();
    let before = limit(libc::RLIMIT_NOFILE as _, used + free);
    let result = PidLock::acquire(path);
    limit(libc::RLIMIT_NOFILE as _, before);
    result
}

const NO_DESCRIPTOR: Error = Error::Sys { call: Call::Openat, errno: Errno::TooManyOpenFiles };

/// An acquire needs two descriptors: the directory's and the file's.
#[test]
fn no_free_descriptor_is_an_error_and_changes_nothing() {
    let scratch = Scratch::new();
    let (fresh, stale) = (scratch.path("fresh"), scratch.path("stale"));
    fs::write(stale, "4194305\n").unwrap();
    for free in [0, 1] {
        apart(|| {
            fill_holes();
            let before = descriptors();
            for path in [fresh, stale] {
                assert_eq!(
                    acquire_with_free_descriptors(path, free).map(drop),
                    Err(NO_DESCRIPTOR),
                    "{path}, {free} free"
                );
                assert_eq!(descriptors(), before);
            }
            assert_eq!(listing(scratch.directory.to_str().unwrap()), ["stale"]);
            assert_eq!(content(stale), "4194305\n");
            assert!(!is_locked(stale));
            assert_works(fresh);
        });
    }
    for path in [fresh, stale] {
        apart(|| acquire_with_free_descriptors(path, 2).unwrap().release().unwrap());
        assert!(fs::metadata(path).is_err());
    }
}

#[test]
fn no_free_descriptor_while_parents_are_made_is_an_error() {
    let scratch = Scratch::new();
    for (free, expected) in [(0, Some(NO_DESCRIPTOR)), (1, Some(NO_DESCRIPTOR)), (2, None)] {
        let path = scratch.path(&format!("{free}/a/b/pid"));
        apart(|| {
            fill_holes();
            let before = descriptors();
            assert_eq!(acquire_with_free_descriptors(path, free).map(drop).err(), expected, "{free} free");
            assert_eq!(descriptors(), before);
            assert_works(path);
        });
    }
}

/// With the standard streams closed, every descriptor that opens as 0 is moved up, and the move can fail, too.
#[test]
fn no_free_descriptor_above_the_standard_streams_is_an_error_and_leaves_no_file() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for free in [0, 1] {
        apart(|| {
            unsafe { libc::dup(2) }; // with nothing else open, a limit of 3 would be EINVAL
            let used = fill_holes();
            unsafe { libc::close(0) };
            let before = limit(libc::RLIMIT_NOFILE as _, used + free);
            let failed = PidLock::acquire(path).map(drop).unwrap_err();
            limit(libc::RLIMIT_NOFILE as _, before);
            assert_eq!(failed.errno(), Some(Errno::TooManyOpenFiles), "{free} free");
            assert_eq!(unsafe { libc::fcntl(0, libc::F_GETFD) }, -1, "0 is open");
            assert_eq!(fill_holes(), used, "a descriptor is left");
        });
        assert_eq!(listing(scratch.directory.to_str().unwrap()), [""; 0], "{free} free");
        assert_works(path);
    }
}

/// To find the holder needs a third descriptor. Without it the error names no holder, and is contention nevertheless.
#[test]
fn contention_is_reported_without_a_descriptor_to_find_the_holder() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let lock = PidLock::acquire(path).unwrap();
    for (free, holder) in [(2, None), (3, Pid::new(me()))] {
        apart(|| {
            fill_holes();
            let before = descriptors();
            let refused = acquire_with_free_descriptors(path, free).map(drop);
            assert_eq!(refused, Err(Error::AlreadyLocked { holder }), "{free} free");
            assert_eq!(descriptors(), before);
        });
        assert_eq!(content(path), names_me());
        assert!(is_locked(path));
    }
    lock.release().unwrap();
}

#[test]
fn a_stamp_beyond_the_file_size_limit_is_undone() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    // The old file: none, an empty one, a stamp of the same length, a longer one, and one too long to be overwritten.
    let stale =
        [None, Some(""), Some("4194305\n"), Some("2147483647\n"), Some("A text of more than thirty-two bytes.\n")];
    apart(|| {
        for size in 0..names_me().len() {
            for stale in stale {
                if let Some(text) = stale {
                    fs::write(path, text).unwrap();
                }
                under_file_size(size, || assert_fails(path, Call::Pwrite, Errno::FileTooLarge));
                // An existing file is removed as well: it was locked, and so it was ours.
                assert_eq!(listing(scratch.directory.to_str().unwrap()), [""; 0], "limit {size}, over {stale:?}");
                assert_works(path);
            }
        }
    });
}

/// A program that does not compare it with the path, such as flock(1), may have opened it.
#[test]
fn a_file_that_is_to_stay_stays_when_its_stamp_fails() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    apart(|| {
        fs::write(path, "4194305\n").unwrap();
        let inode = fs::metadata(path).unwrap().ino();
        let failed = under_file_size(0, || PidLock::options().remove_on_release(false).acquire(path).map(drop));
        assert_eq!(failed, Err(Error::Sys { call: Call::Pwrite, errno: Errno::FileTooLarge }));
        assert_eq!((fs::metadata(path).unwrap().ino(), content(path)), (inode, String::new()));
        assert!(!is_locked(path));
    });
}

/// The same if acquire just created it: another program may have opened it since.
#[test]
fn a_file_that_is_to_stay_stays_empty_and_free_when_its_first_stamp_fails() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    let acquire = || PidLock::options().remove_on_release(false).acquire(path).map(drop);
    apart(|| {
        let failed = under_file_size(0, acquire);
        assert_eq!(failed, Err(Error::Sys { call: Call::Pwrite, errno: Errno::FileTooLarge }));
        assert_eq!(listing(scratch.directory.to_str().unwrap()), ["pid"]);
        assert_eq!(content(path), "");
        assert!(!is_locked(path));
        assert_works(path);
    });
    apart_with_mounts(|| {
        let (directory, filler) = (scratch.directory.to_str().unwrap(), scratch.path("filler"));
        mount(directory, "tmpfs", 0, "size=4k");
        fs::write(filler, [0; 4096]).unwrap();
        assert_eq!(acquire(), Err(Error::Sys { call: Call::Pwrite, errno: Errno::StorageFull }));
        assert_eq!(listing(directory), ["filler", "pid"]);
        assert_eq!(content(path), "");
        assert!(!is_locked(path));
    });
}

#[test]
fn an_adoption_that_cannot_stamp_leaves_the_lock_to_the_process_that_shares_it() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    apart(|| {
        let lock = PidLock::acquire(path).unwrap();
        let shared = unsafe { libc::dup(lock.as_raw_fd()) };
        let shared = unsafe { OwnedFd::from_raw_fd(shared) };
        let failed = under_file_size(0, || PidLock::adopt(shared, path).map(drop));
        assert_eq!(failed, Err(Error::Sys { call: Call::Pwrite, errno: Errno::FileTooLarge }));
        assert_eq!((lock.is_current(), content(path)), (Ok(true), names_me()));
        let second = PidLock::acquire(path).map(drop);
        assert_eq!(second, Err(Error::AlreadyLocked { holder: Some(lock.pid()) }));
        lock.release().unwrap();
    });
}

#[test]
fn a_stamp_that_just_fits_the_file_size_limit_is_written() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    apart(|| {
        under_file_size(names_me().len(), || assert_works(path));
    });
}

/// The parent stays the owner. The file names the parent or nobody, and never holds a part of the child's PID.
#[test]
fn a_restamp_beyond_the_file_size_limit_leaves_the_lock_with_its_owner() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for size in 0..names_me().len() as libc::rlim_t {
        let lock = PidLock::acquire(path).unwrap();
        apart(|| {
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
            limit(libc::RLIMIT_FSIZE as _, size);
            let failed = Error::Sys { call: Call::Pwrite, errno: Errno::FileTooLarge };
            assert_eq!(lock.restamp(), Err(failed), "limit {size}");
            assert_ne!(lock.pid().get(), me());
        });
        assert_eq!(content(path), if size == 0 { names_me() } else { String::new() }, "limit {size}");
        assert!(is_locked(path));
        lock.release().unwrap();
        assert_eq!(listing(scratch.directory.to_str().unwrap()), [""; 0]);
    }
}

// A full file system.

fn mount(target: &str, kind: &str, flags: libc::c_ulong, options: &str) {
    let [target, kind, options] = [target, kind, options].map(|text| CString::new(text).unwrap());
    let mounted =
        unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    assert_eq!(mounted, 0, "mount {target:?}: {}", io::Error::last_os_error());
}

#[test]
fn a_stamp_without_space_is_undone() {
    let scratch = Scratch::new();
    let directory = scratch.directory.to_str().unwrap();
    let (filler, path) = (scratch.path("filler"), scratch.path("pid"));
    apart_with_mounts(|| {
        mount(directory, "tmpfs", 0, "size=4k");
        fs::write(filler, [0; 4096]).unwrap();
        assert_fails(path, Call::Pwrite, Errno::StorageFull);
        assert_eq!(listing(directory), ["filler"]);
        fs::write(path, "").unwrap(); // as after a release that keeps the file
        assert_fails(path, Call::Pwrite, Errno::StorageFull);
        assert_eq!(listing(directory), ["filler"]);
        fs::remove_file(filler).unwrap();
        assert_works(path);
    });
}

#[test]
fn a_file_without_an_inode_is_an_error() {
    let scratch = Scratch::new();
    let directory = scratch.directory.to_str().unwrap();
    let (filler, path) = (scratch.path("filler"), scratch.path("pid"));
    apart_with_mounts(|| {
        mount(directory, "tmpfs", 0, "nr_inodes=2"); // the directory has one of them
        fs::write(filler, "").unwrap();
        assert_fails(path, Call::Openat, Errno::StorageFull);
        assert_fails(scratch.path("missing/pid"), Call::Mkdirat, Errno::StorageFull);
        assert_eq!(listing(directory), ["filler"]);
        fs::remove_file(filler).unwrap();
        assert_works(path);
    });
}

/// A separate file system with a quota, on a loop device, until this is dropped. btrfs, because its tools are easy to get, and
/// few kernels have quotas on other file systems.
fn with_quota(scratch: &Scratch, work: impl FnOnce(&str)) {
    let (image, mounted) = (scratch.path("image"), scratch.path("mounted"));
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    if run("mkfs.btrfs", &["--version"]).is_err() {
        return skip("needs mkfs.btrfs and btrfs");
    }
    let must = |program, arguments: &[&str]| {
        assert!(run(program, arguments).unwrap().success(), "{program} {arguments:?}");
    };
    apart_with_mounts(|| {
        fs::File::create(image).unwrap().set_len(128 << 20).unwrap();
        fs::create_dir(mounted).unwrap();
        must("mkfs.btrfs", &["-q", image]);
        must("mount", &["-o", "loop", image, mounted]);
        let directory = &format!("{mounted}/volume");
        must("btrfs", &["quota", "enable", mounted]);
        must("btrfs", &["subvolume", "create", directory]);
        must("btrfs", &["quota", "rescan", "-w", mounted]);
        must("btrfs", &["qgroup", "limit", "1M", directory]);
        work(directory);
        must("umount", &[mounted]);
    });
}

#[test]
fn a_stamp_beyond_the_quota_is_undone() {
    let scratch = Scratch::new();
    with_quota(&scratch, |directory| {
        let in_it = |name: &str| format!("{directory}/{name}");
        let (filler, fresh, stale): (&str, &str, &str) = (&in_it("filler"), &in_it("fresh"), &in_it("stale"));
        fs::write(stale, "").unwrap(); // as a release leaves it that keeps the file
        let mut file = fs::File::create(filler).unwrap();
        let error = loop {
            if let Err(error) = file.write_all(&[1; 4096]).and_then(|()| file.sync_all()) {
                break error;
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::EDQUOT));
        for (path, call) in [(fresh, Call::Openat), (stale, Call::Pwrite)] {
            assert_fails(path, call, Errno::QuotaExceeded);
            assert_eq!(fs::read_to_string(path).unwrap_or_default(), "", "{path}");
            assert!(fs::metadata(path).is_err() || !is_locked(path), "{path}");
        }
        drop(file);
        let lifted = Command::new("btrfs").args(["quota", "disable", directory]).status().unwrap();
        assert!(lifted.success());
        assert_works(fresh);
        assert_works(stale);
    });
}

// No permission.

/// In a forked child: becomes nobody for good. The user nobody may have no access to the current directory.
fn become_nobody_in(directory: &str) {
    std::env::set_current_dir(directory).unwrap();
    if is_root() {
        assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
        assert_eq!(unsafe { libc::setgid(65534) }, 0);
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
        // Keeps /proc/self readable.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    }
}

#[test]
fn no_permission_is_an_error_and_changes_nothing() {
    let scratch = Scratch::new();
    let (directory, stale) = (scratch.path("closed"), scratch.path("closed/stale"));
    fs::create_dir(directory).unwrap();
    fs::write(stale, "4194305\n").unwrap();
    let set_mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(stale, 0o444);
    // The mode of the directory, the path, and what fails.
    for (mode, path, call) in [
        (0o555, "closed/fresh", Call::Openat),
        (0o555, "closed/stale", Call::Openat),
        (0o555, "closed/missing/pid", Call::Mkdirat),
        (0o555, "closed/missing/missing/pid", Call::Mkdirat),
        (0o444, "closed/fresh", Call::Openat),
        (0o444, "closed/stale", Call::Openat),
        (0o444, "closed/missing/pid", Call::Openat),
    ] {
        set_mode(directory, mode);
        apart(|| {
            become_nobody_in(scratch.directory.to_str().unwrap());
            assert_fails(path, call, Errno::PermissionDenied);
        });
        set_mode(directory, 0o755);
        assert_eq!(listing(directory), ["stale"]);
        assert_eq!(content(stale), "4194305\n");
        assert!(!is_locked(stale));
    }
    set_mode(stale, 0o644);
    assert_works(stale);
}

#[test]
fn a_read_only_file_system_is_an_error_and_changes_nothing() {
    let scratch = Scratch::new();
    let directory = scratch.directory.to_str().unwrap();
    let (fresh, stale) = (scratch.path("fresh"), scratch.path("stale"));
    apart_with_mounts(|| {
        mount(directory, "tmpfs", 0, "");
        fs::write(stale, "4194305\n").unwrap();
        mount(directory, "tmpfs", libc::MS_REMOUNT | libc::MS_RDONLY, "");
        for (path, call) in [(fresh, Call::Openat), (stale, Call::Openat), (scratch.path("missing/pid"), Call::Mkdirat)]
        {
            assert_fails(path, call, Errno::ReadOnlyFilesystem);
        }
        assert_eq!(listing(directory), ["stale"]);
        assert_eq!(content(stale), "4194305\n");
        assert!(!is_locked(stale));
        assert_eq!(pidflock::probe(stale), Ok(State::Free { stale: Pid::new(4_194_305) })); // a probe is allowed
        mount(directory, "tmpfs", libc::MS_REMOUNT, "");
        assert_works(fresh);
        assert_works(stale);
    });
}

#[test]
fn an_immutable_or_append_only_file_is_an_error_and_stays_as_it_was() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    for flag in [IMMUTABLE, APPEND_ONLY] {
        fs::write(path, "4194305\n").unwrap();
        let Some(attribute) = Attribute::set(path, flag) else {
            return skip("needs a file system with attributes, and the right to set them");
        };
        assert_fails(path, Call::Openat, Errno::NotPermitted);
        assert_eq!(content(path), "4194305\n");
        assert!(!is_locked(path));
        drop(attribute);
        assert_works(path);
    }
}

// Another view of the file system.

#[test]
fn a_release_after_chroot_removes_the_right_file() {
    if !is_root() {
        return skip("only root may change its root");
    }
    let scratch = Scratch::new();
    let (path, jail) = (scratch.path("pid"), scratch.path("jail"));
    let decoy = format!("{jail}{path}"); // the file at the path inside the jail
    fs::create_dir_all(&decoy[..decoy.len() - "/pid".len()]).unwrap();
    fs::write(&decoy, names_me()).unwrap();
    apart(|| {
        let lock = PidLock::acquire(path).unwrap();
        chroot(jail).unwrap();
        std::env::set_current_dir("/").unwrap();
        assert_eq!(content(path), format!("{}\n", unsafe { libc::getppid() })); // the decoy
        assert_eq!(lock.is_current(), Ok(true));
        lock.restamp().unwrap();
        lock.release().unwrap();
    });
    assert_eq!(listing(scratch.directory.to_str().unwrap()), ["jail"]);
    assert_eq!(content(&decoy), names_me());
}

#[test]
fn everything_works_without_proc_and_dev() {
    let scratch = Scratch::new();
    let path = scratch.path("pid");
    apart_with_mounts(|| {
        let before = descriptors();
        mount("/dev", "tmpfs", 0, "");
        mount("/proc", "tmpfs", 0, "");
        assert!(fs::metadata("/dev/null").is_err());
        assert!(fs::metadata("/proc/self").is_err());

        let me = Pid::new(me()).unwrap();
        let lock = PidLock::acquire(path).unwrap();
        assert_eq!(PidLock::acquire(path).map(drop), Err(Error::AlreadyLocked { holder: Some(me) }));
        assert_eq!(pidflock::probe(path), Ok(State::Held { holder: Some(me) }));
        assert_eq!(pidflock::signal(path, Signal::from_raw(0).unwrap()), Ok(me));
        lock.release().unwrap();
        assert_eq!(pidflock::probe(path), Ok(State::Absent));

        assert_eq!(unsafe { libc::umount2(c"/proc".as_ptr(), 0) }, 0);
        assert_eq!(descriptors(), before);
    });
}
