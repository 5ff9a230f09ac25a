//! For any bytes as a path, the result is a documented one, and `InvalidPath` exactly if the rules say so. Nothing is created.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pidflock::{Call, Errno, Error, State, probe, read_pid_from};
use std::{env, fs, path::PathBuf, process, sync::OnceLock};

/// The rules of a path, once more: empty, a NUL inside, a trailing slash, a last component `.` or `..`, a name of more
/// than 255 bytes, a path of more than 4,095 bytes.
fn is_invalid(path: &[u8]) -> bool {
    if path.is_empty() || path.len() > 4_095 || path.contains(&0) || path.ends_with(b"/") {
        return true;
    }
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = &path[start..];
    name == b"." || name == b".." || name.len() > 255
}

/// The fuzzer's directory, with its corpus at relative paths, and an empty directory of ours.
fn directories() -> &'static (PathBuf, PathBuf) {
    static DIRECTORIES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    DIRECTORIES.get_or_init(|| {
        let ours = env::temp_dir().join(format!("pidflock-fuzz-{}", process::id()));
        fs::create_dir(&ours).expect("a directory of our own");
        (env::current_dir().expect("we are somewhere"), ours)
    })
}

/// Whether the path stays in the working directory. `..` and absolute paths would lead to files that others create and
/// remove meanwhile. A refused path may contain them.
fn stays_inside(path: &[u8]) -> bool {
    !path.starts_with(b"/") && !path.split(|byte| *byte == b'/').any(|component| component == b"..")
}

/// Whether the first directory of the path has a name of more than 255 bytes. No directory exists, so the kernel looks for
/// no other.
fn is_too_long_on_the_way(path: &[u8]) -> bool {
    let mut components = path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."));
    components.next().is_some_and(|first| first.len() > 255)
}

fuzz_target!(|path: &[u8]| {
    let invalid = is_invalid(path);
    if !invalid && !stays_inside(path) {
        return;
    }
    // Before any assertion, go back: the fuzzer stores its findings at a relative path, too.
    let (start, ours) = directories();
    env::set_current_dir(ours).expect("it is there");
    let (state, claim) = (probe(path), read_pid_from(path));
    let made = fs::read_dir(".").expect("our own directory").count();
    env::set_current_dir(start).expect("it is there");
    assert_eq!(made, 0, "something was created");
    if invalid {
        assert_eq!(state, Err(Error::InvalidPath));
        assert_eq!(claim, Err(Error::InvalidPath));
    } else if is_too_long_on_the_way(path) {
        let refused = Error::Sys { call: Call::Openat, errno: Errno::NameTooLong };
        assert_eq!(state, Err(refused));
        assert_eq!(claim, Err(refused));
    } else {
        assert_eq!(state, Ok(State::Absent));
        assert_eq!(claim, Ok(None));
    }
});
