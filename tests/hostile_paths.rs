//! Only a regular file with one link is written. Anything else is refused without a write, a hang or a leftover.

mod support;

use pidflock::{Error, PidLock, Signal, State, Wait, probe, read_pid_from, signal, wait_released};
use std::{
    ffi::CString,
    fs, io,
    os::unix::{
        fs::{MetadataExt, symlink},
        net::UnixListener,
    },
};
use support::*;

/// The metadata and content of every name in the scratch directory, and the metadata of that directory.
fn snapshot(scratch: &Scratch) -> Vec<String> {
    let mut seen = vec![describe(scratch.path(""))];
    for entry in fs::read_dir(&scratch.directory).unwrap() {
        seen.push(describe(entry.unwrap().path().to_str().unwrap()));
    }
    seen.sort();
    seen
}

fn describe(path: &str) -> String {
    let of = fs::symlink_metadata(path).unwrap();
    let content = if of.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    let target = fs::read_link(path).ok();
    let times = (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    format!(
        "{path} inode {} mode {:o} links {} size {} times {times:?} {target:?} {content:?}",
        of.ino(),
        of.mode(),
        of.nlink(),
        of.size()
    )
}

/// The results of all functions for this path, in a child that has ten seconds for all of them.
fn each_refuses(scratch: &Scratch, name: &str) {
    let path = scratch.path(name);
    let before = snapshot(scratch);
    let child = fork(|| {
        unsafe { libc::alarm(10) };
        let open = descriptors();
        let refusals = [
            PidLock::acquire(path).err(),
            PidLock::options().wait(Wait::Forever).acquire(path).err(),
            PidLock::options().create_parents(false).acquire(path).err(),
            probe(path).err(),
            read_pid_from(path).err(),
            signal(path, Signal::CHECK).err(),
            wait_released(path, Wait::Never).err(),
            wait_released(path, Wait::Forever).err(),
        ];
        let wrong = refusals.iter().position(|refusal| *refusal != Some(Error::NotAPidFile));
        match wrong {
            Some(index) => 10 + i32::try_from(index).unwrap(),
            None if descriptors() != open => 1,
            None => 0,
        }
    });
    assert_eq!(
        child.wait(),
        End::Exit(0),
        "{name}: 10 and up is the function by its place in the list, 1 a descriptor"
    );
    assert_eq!(snapshot(scratch), before, "{name}");
}

fn c_path(path: &str) -> CString {
    CString::new(path).unwrap()
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "4242\n").unwrap();
    fs::create_dir(scratch.path("directory")).unwrap();
    for (name, target) in [
        ("dangling", "nowhere"),
        ("to a file", "file"),
        ("to itself", "to itself"),
        ("to a directory", "directory"),
        ("to a device", "/dev/null"),
    ] {
        symlink(target, scratch.path(name)).unwrap();
        each_refuses(&scratch, name);
    }
}

#[test]
fn a_directory_is_refused() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("directory")).unwrap();
    each_refuses(&scratch, "directory");
}

#[test]
fn a_fifo_that_nobody_else_has_open_is_refused_at_once() {
    let scratch = Scratch::new();
    assert_eq!(unsafe { libc::mkfifo(c_path(scratch.path("fifo")).as_ptr(), 0o600) }, 0);
    each_refuses(&scratch, "fifo");
}

#[test]
fn a_socket_is_refused() {
    let scratch = Scratch::new();
    let _listener = UnixListener::bind(scratch.path("socket")).unwrap();
    each_refuses(&scratch, "socket");
}

#[test]
fn a_device_is_refused() {
    let scratch = Scratch::new();
    let null = libc::makedev(1, 3);
    if unsafe { libc::mknod(c_path(scratch.path("device")).as_ptr(), libc::S_IFCHR | 0o666, null) } == -1 {
        return skip(&format!("mknod: {}", io::Error::last_os_error()));
    }
    each_refuses(&scratch, "device");
}

/// The kind of file decides, even if it is locked: no call waits for a lock on a directory.
#[test]
fn a_locked_fifo_or_directory_is_refused_and_not_waited_for() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("directory")).unwrap();
    assert_eq!(unsafe { libc::mkfifo(c_path(scratch.path("fifo")).as_ptr(), 0o600) }, 0);
    for name in ["directory", "fifo"] {
        let fd = unsafe { libc::open(c_path(scratch.path(name)).as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK) };
        assert_eq!(unsafe { libc::flock(fd, libc::LOCK_EX) }, 0);
        each_refuses(&scratch, name);
        unsafe { libc::close(fd) };
    }
}

/// The stamp would be written under the other name, too.
#[test]
fn a_file_with_a_second_hard_link_is_not_written_to() {
    let scratch = Scratch::new();
    for content in ["", "4242\n", "a letter to a friend\n"] {
        fs::write(scratch.path("file"), content).unwrap();
        fs::hard_link(scratch.path("file"), scratch.path("a.pid")).unwrap();
        let (before, open) = (snapshot(&scratch), descriptors());
        assert_eq!(PidLock::acquire(scratch.path("a.pid")).unwrap_err(), Error::NotAPidFile);
        assert_eq!(snapshot(&scratch), before);
        assert_eq!(descriptors(), open);
        assert!(!is_locked(scratch.path("file")));
        // Calls that only read write nothing under any name.
        assert_eq!(
            probe(scratch.path("a.pid")),
            Ok(State::Free { stale: read_pid_from(scratch.path("file")).unwrap() })
        );
        fs::remove_file(scratch.path("a.pid")).unwrap();
    }
    drop(PidLock::acquire(scratch.path("file")).unwrap()); // it has one link again
}

/// The next write detects a second link that was created later.
#[test]
fn a_lock_whose_file_got_a_second_hard_link_does_not_restamp() {
    let scratch = Scratch::new();
    let lock = PidLock::acquire(scratch.path("a.pid")).unwrap();
    fs::hard_link(scratch.path("a.pid"), scratch.path("other")).unwrap();
    assert_eq!(lock.restamp(), Err(Error::NotAPidFile));
    assert!(is_locked(scratch.path("other")));
}

/// In the directory of another user it would direct a signal of root's at the holder of another name.
#[test]
fn nobody_is_signalled_through_a_second_hard_link() {
    let scratch = Scratch::new();
    let lock = PidLock::acquire(scratch.path("a.pid")).unwrap();
    fs::hard_link(scratch.path("a.pid"), scratch.path("other")).unwrap();
    assert_eq!(signal(scratch.path("other"), Signal::CHECK), Err(Error::NotAPidFile));
    fs::remove_file(scratch.path("other")).unwrap();
    assert_eq!(signal(scratch.path("a.pid"), Signal::CHECK), Ok(lock.pid()));
}

#[test]
fn a_regular_file_is_taken_whatever_it_contains() {
    let scratch = Scratch::new();
    for content in [&b""[..], b"\0\0\0\0", b"rubbish", b"-1\n", &[0xff; 5000]] {
        fs::write(scratch.path("a.pid"), content).unwrap();
        let lock = PidLock::acquire(scratch.path("a.pid")).unwrap();
        assert_eq!(read_pid_from(scratch.path("a.pid")), Ok(Some(lock.pid())));
    }
}

/// Without `O_NOCTTY`, a session without a terminal would get the first one that it opens, with its SIGHUP and SIGINT.
#[test]
fn a_terminal_does_not_become_the_controlling_terminal() {
    let _scratch = Scratch::new();
    let (_person, program) = terminal();
    let path = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program))).unwrap();
    let path = path.to_str().unwrap();
    let looks: [fn(&str) -> Option<Error>; 3] =
        [|path| PidLock::acquire(path).err(), |path| probe(path).err(), |path| read_pid_from(path).err()];
    for look in looks {
        let child = fork(|| {
            assert_ne!(unsafe { libc::setsid() }, -1);
            assert_eq!(look(path), Some(Error::NotAPidFile));
            assert_eq!(fs::File::open("/dev/tty").unwrap_err().raw_os_error(), Some(libc::ENXIO));
            0
        });
        assert_eq!(child.wait(), End::Exit(0));
    }
}
