//! A path means one file, the same from acquire to release; what cannot be the path of a file is refused.

mod support;

use pidflock::{
    Call, Errno, Error, Options, PidLock, Signal, State, Wait, probe, read_pid_from, signal, wait_released,
};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
};
use support::*;

/// Runs it in a child, which can change its working directory and umask.
fn in_child(work: impl FnOnce()) {
    let work = || {
        work();
        0
    };
    assert_eq!(fork(work).wait(), End::Exit(0));
}

fn go_to(directory: &str) {
    std::env::set_current_dir(directory).unwrap();
}

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The results of all functions for this path.
fn refusals(path: &[u8]) -> [(&'static str, Option<Error>); 5] {
    [
        ("acquire", PidLock::acquire(path).err()),
        ("probe", probe(path).err()),
        ("read_pid_from", read_pid_from(path).err()),
        ("signal", signal(path, Signal::CHECK).err()),
        ("wait_released", wait_released(path, Wait::Never).err()),
    ]
}

/// The scratch directory and a name, with as many `./` between the two as make it this long.
fn path_of_length(scratch: &Scratch, length: usize) -> String {
    let mut path = scratch.path("").to_owned();
    while path.len() + 2 < length {
        path += "./";
    }
    path += &"x".repeat(length - path.len());
    assert_eq!(path.len(), length);
    path
}

#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "references are types, too")]
fn every_type_that_is_bytes_is_a_path() {
    fn works(path: impl pidflock::AsPath) {
        let lock = PidLock::acquire(&path).unwrap();
        assert_eq!(probe(&path), Ok(State::Held { holder: Some(lock.pid()) }));
        assert!(exists("a.pid"));
        lock.release().unwrap();
        assert_eq!(probe(&path), Ok(State::Absent));
    }
    let scratch = Scratch::new();
    in_child(|| {
        go_to(scratch.path(""));
        works("a.pid");
        works(b"a.pid");
        works(*b"a.pid");
        works(&b"a.pid"[..]);
        works(c"a.pid");
        works(&"a.pid");
        #[cfg(feature = "std")]
        {
            use std::{
                ffi::{OsStr, OsString},
                path::{Path, PathBuf},
            };
            works(Path::new("a.pid"));
            works(PathBuf::from("a.pid"));
            works(&PathBuf::from("a.pid"));
            works(OsStr::new("a.pid"));
            works(OsString::from("a.pid"));
            works(&OsString::from("a.pid"));
            works(String::from("a.pid"));
            works(&String::from("a.pid"));
            works(std::ffi::CString::new("a.pid").unwrap());
            works(b"a.pid".to_vec());
            works(Box::<Path>::from(Path::new("a.pid")));
            works(Path::new("a.pid").to_string_lossy());
            works(std::borrow::Cow::from(Path::new("a.pid")));
        }
    });
}

#[test]
fn a_path_that_is_not_text_works() {
    let scratch = Scratch::new();
    let path = [scratch.path("").as_bytes(), b"\xff\n\x01 .pid"].concat();
    let lock = PidLock::acquire(&path[..]).unwrap();
    assert_eq!(probe(&path[..]), Ok(State::Held { holder: Some(lock.pid()) }));
    lock.release().unwrap();
    assert_eq!(fs::read_dir(&scratch.directory).unwrap().count(), 0);
}

#[test]
fn a_relative_path_means_the_same_file_after_chdir() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    fs::write(scratch.path("elsewhere/a.pid"), "not ours\n").unwrap();
    in_child(|| {
        for path in ["a.pid", "./a.pid", "sub/../a.pid", "elsewhere/../a.pid", "new/directory/a.pid"] {
            go_to(scratch.path(""));
            fs::create_dir_all("sub").unwrap();
            let lock = PidLock::acquire(path).unwrap();
            go_to("elsewhere");
            assert_eq!(lock.is_current(), Ok(true));
            lock.restamp().unwrap();
            lock.release().unwrap();
            go_to(scratch.path(""));
            assert!(!exists(path), "{path}");
        }
    });
    assert_eq!(fs::read(scratch.path("elsewhere/a.pid")).unwrap(), b"not ours\n");
}

#[test]
fn what_cannot_be_the_path_of_a_file_is_refused() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("directory")).unwrap();
    let in_scratch = |name: &str| scratch.path(name).as_bytes().to_vec();
    let mut paths: Vec<Vec<u8>> =
        ["", "/", "//", ".", "..", "x/", "a/.", "a/..", "/.", "/..", "\0"].map(|path| path.as_bytes().to_vec()).into();
    paths.extend(
        ["x/", "x//", ".", "..", "directory/", "directory/.", "directory/..", "a\0b", "\0", "a\0", "no\0de/x"]
            .map(in_scratch),
    );
    paths.push(in_scratch(&"x".repeat(256)));
    paths.push(path_of_length(&scratch, 4_096).into());
    paths.push(path_of_length(&scratch, 5_000).into());
    for path in paths {
        let shown = String::from_utf8_lossy(&path[..path.len().min(100)]).into_owned();
        for (function, refusal) in refusals(&path) {
            assert_eq!(refusal, Some(Error::InvalidPath), "{function} of {shown:?}");
        }
    }
    // And nothing was created.
    let names: Vec<_> = fs::read_dir(&scratch.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["directory"]);
}

#[test]
fn the_longest_name_and_the_longest_path_work() {
    let scratch = Scratch::new();
    let paths = [
        scratch.path(&"x".repeat(255)).to_owned(),
        path_of_length(&scratch, 4_095),
        scratch.path("sub//directory///a.pid").replacen("/sub", "//sub", 1),
        scratch.path("...").to_owned(),
        scratch.path(" ").to_owned(),
    ];
    for path in &paths {
        let lock = PidLock::acquire(path.as_str()).unwrap();
        assert_eq!(probe(path.as_str()), Ok(State::Held { holder: Some(lock.pid()) }));
        lock.release().unwrap();
        assert_eq!(probe(path.as_str()), Ok(State::Absent));
    }
    assert!(exists(scratch.path("sub/directory")));
}

#[test]
fn missing_parents_are_made_with_0755_less_the_umask_and_stay() {
    let scratch = Scratch::new();
    for (umask, directory, expected) in [(0, "open", 0o755), (0o022, "usual", 0o755), (0o077, "private", 0o700)] {
        in_child(|| {
            go_to(scratch.path(""));
            unsafe { libc::umask(umask) };
            PidLock::acquire(format!("{directory}/b/c.pid").as_bytes()).unwrap().release().unwrap();
        });
        assert_eq!(mode(scratch.path(directory)), expected, "umask {umask:o}");
        assert_eq!(mode(scratch.path(&format!("{directory}/b"))), expected, "umask {umask:o}");
    }
}

#[test]
fn existing_parents_are_not_changed() {
    let scratch = Scratch::new();
    fs::DirBuilder::new().mode(0o711).create(scratch.path("a")).unwrap();
    PidLock::acquire(scratch.path("a/b/c.pid")).unwrap().release().unwrap();
    assert_eq!(mode(scratch.path("a")), 0o711);
}

#[test]
fn missing_parents_are_not_created_without_create_parents() {
    let scratch = Scratch::new();
    let error = PidLock::options().create_parents(false).acquire(scratch.path("a/b.pid")).unwrap_err();
    assert_eq!(error, Error::Sys { call: Call::Openat, errno: Errno::NotFound });
    // Queries create nothing either.
    assert_eq!(probe(scratch.path("a/b.pid")), Ok(State::Absent));
    assert_eq!(read_pid_from(scratch.path("a/b.pid")), Ok(None));
    assert_eq!(signal(scratch.path("a/b.pid"), Signal::CHECK), Err(Error::NotLocked));
    assert_eq!(wait_released(scratch.path("a/b.pid"), Wait::Never), Ok(()));
    assert!(!exists(scratch.path("a")));
    drop(PidLock::options().create_parents(false).acquire(scratch.path("b.pid")).unwrap());
}

#[test]
fn three_hundred_missing_parents_are_created() {
    let scratch = Scratch::new();
    let path = scratch.path(&("d/".repeat(300) + "a.pid"));
    let lock = PidLock::acquire(path).unwrap();
    assert_eq!(read_pid_from(path), Ok(Some(lock.pid())));
}

#[test]
fn a_parent_that_is_no_directory_is_an_error() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "content").unwrap();
    symlink("nowhere", scratch.path("dangling")).unwrap();
    let table = [
        ("file/a.pid", Errno::NotADirectory),
        ("file/b/a.pid", Errno::NotADirectory),
        ("new/../file/a.pid", Errno::NotADirectory),
        ("dangling/a.pid", Errno::NotFound),
    ];
    for (name, errno) in table {
        let error = PidLock::acquire(scratch.path(name)).unwrap_err();
        assert_eq!(error, Error::Sys { call: Call::Openat, errno }, "{name}");
    }
    for (function, refusal) in refusals(scratch.path("file/a.pid").as_bytes()) {
        let expected = Error::Sys { call: Call::Openat, errno: Errno::NotADirectory };
        assert_eq!(refusal, Some(expected), "{function}");
    }
    assert_eq!(fs::read(scratch.path("file")).unwrap(), b"content");
    assert!(!exists(scratch.path("nowhere")));
}

#[test]
fn a_parent_may_be_a_symbolic_link() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("real")).unwrap();
    symlink("real", scratch.path("link")).unwrap();
    let lock = PidLock::acquire(scratch.path("link/a.pid")).unwrap();
    assert_eq!(probe(scratch.path("real/a.pid")), Ok(State::Held { holder: Some(lock.pid()) }));
}

#[test]
fn a_new_file_has_the_requested_mode_whatever_the_umask_is() {
    let scratch = Scratch::new();
    let table = [
        (0o000, None, 0o644),
        (0o077, None, 0o600),
        (0o000, Some(0o666), 0o666),
        (0o022, Some(0o666), 0o666),
        (0o077, Some(0o777), 0o777),
        (0o077, Some(0o644), 0o644),
        (0o777, None, 0),
        (0o000, Some(0o600), 0o600),
        (0o000, Some(0), 0),
        (0o000, Some(0o7777), 0o777), // neither set-user-ID nor sticky
        (0o000, Some(0o10_0640), 0o640),
        (0o000, Some(u32::MAX), 0o777),
    ];
    for (umask, asked, expected) in table {
        in_child(|| {
            unsafe { libc::umask(umask) };
            let options = asked.map_or(PidLock::options(), |mode| PidLock::options().mode(mode));
            let lock = options.acquire(scratch.path("a.pid")).unwrap();
            assert_eq!(mode(scratch.path("a.pid")), expected, "umask {umask:o}, asked {asked:?}");
            lock.release().unwrap();
        });
    }
}

#[test]
fn the_default_options_are_those_of_a_plain_acquire() {
    assert_eq!(Options::default(), PidLock::options());
    assert_eq!(Wait::default(), Wait::Never);
    assert_eq!(PidLock::options().create_parents(true).sync(true).remove_on_release(true), Options::default());
    // The mode is set even if its bits are those of the default.
    assert_ne!(PidLock::options().mode(0o644), Options::default());
}

#[test]
fn an_existing_file_keeps_its_mode_unless_a_mode_is_requested() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let there = |mode| {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    there(0o600);
    drop(PidLock::acquire(path).unwrap());
    for (before, asked) in [(0o600, 0o644), (0o666, 0o600), (0o4755, 0o755)] {
        there(before);
        let lock = PidLock::acquire(path).unwrap();
        assert_eq!(mode(path), before, "by default");
        lock.release().unwrap();
        there(before);
        let lock = PidLock::options().mode(asked).acquire(path).unwrap();
        assert_eq!(mode(path), asked);
        lock.release().unwrap();
    }
}

#[test]
fn an_adopted_file_gets_the_mode_that_is_asked_for() {
    let scratch = Scratch::new();
    let path = scratch.path("adopted");
    let lock = PidLock::options().mode(0o644).acquire(path).unwrap();
    let lock = PidLock::adopt(lock.hand_over().unwrap(), path).unwrap();
    assert_eq!(mode(path), 0o644);
    let lock = PidLock::options().mode(0o600).adopt(lock.hand_over().unwrap(), path).unwrap();
    assert_eq!(mode(path), 0o600);
    lock.release().unwrap();
}

#[test]
fn the_file_of_another_user_keeps_its_mode() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    in_child(|| {
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
        PidLock::options().mode(0o600).acquire(path).unwrap().disown();
    });
    assert_eq!(mode(path), 0o666);
    // A loser changes nothing.
    let _lock = PidLock::acquire(path).unwrap();
    assert!(PidLock::options().mode(0o600).acquire(path).is_err());
    assert_eq!(mode(path), 0o666);
}

#[test]
fn a_renamed_parent_takes_its_lock_along() {
    let scratch = Scratch::new();
    let lock = PidLock::acquire(scratch.path("old/a.pid")).unwrap();
    fs::rename(scratch.path("old"), scratch.path("new")).unwrap();
    fs::create_dir(scratch.path("old")).unwrap();
    fs::write(scratch.path("old/a.pid"), "not ours\n").unwrap();
    assert_eq!(lock.is_current(), Ok(true));
    assert_eq!(probe(scratch.path("new/a.pid")), Ok(State::Held { holder: Some(lock.pid()) }));
    lock.release().unwrap();
    assert!(!exists(scratch.path("new/a.pid")));
    assert_eq!(fs::read(scratch.path("old/a.pid")).unwrap(), b"not ours\n");
}
