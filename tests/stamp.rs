//! At every instant, to every reader, the file reads as one whole PID or as nothing.

mod support;

use pidflock::PidLock;
use std::{fs, os::unix::fs::FileExt};
use support::*;

/// Longer than every real PID, so that a part of it would be left behind a new one.
const STALE: &str = "2147483647";

const TURNS: u32 = 3_000;

#[test]
fn a_new_file_is_the_pid_and_a_newline() {
    let scratch = Scratch::new();
    let lock = PidLock::acquire(scratch.path("a.pid")).unwrap();
    assert_eq!(fs::read_to_string(scratch.path("a.pid")).unwrap(), format!("{}\n", std::process::id()));
    assert_eq!(lock.pid().as_u32(), std::process::id());
    lock.restamp().unwrap();
    assert_eq!(fs::read_to_string(scratch.path("a.pid")).unwrap(), format!("{}\n", std::process::id()));
}

#[test]
fn a_stamp_leaves_nothing_of_the_old_text() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let mut contents: Vec<Vec<u8>> =
        [0, 1, 2, 5, 6, 7, 8, 11, 12, 20, 31, 32, 33, 64, 1000, 1 << 20].map(|n| vec![b'9'; n]).into();
    contents.extend([STALE, "2147483647\n", "1\n", "\n", "7\nmore\n"].map(|text| text.as_bytes().to_vec()));
    contents.push(vec![0; 20]);
    for content in contents {
        // A file that stays is overwritten.
        for (sync, remove) in [(true, true), (false, true), (true, false)] {
            fs::write(path, &content).unwrap();
            let lock = PidLock::options().sync(sync).remove_on_release(remove).acquire(path).unwrap();
            let stamped = fs::read(path).unwrap();
            assert_eq!(stamped, format!("{}\n", lock.pid()).as_bytes(), "over {} bytes", content.len());
        }
    }
}

/// The exit code of a reader that was too slow to read anything.
const TOO_LITTLE: i32 = 255;

/// Reads the path as fast as it can until the test stops it. Returns how often it read anything but these texts or nothing, at
/// most 254.
fn read_on(path: &str, allowed: [&str; 2], ready: &Pipe, stop: &Pipe) -> i32 {
    ready.send(0);
    let (mut seen_whole, mut seen_else) = (0, 0);
    while stop.receive_within(0).is_none() {
        let Ok(file) = fs::File::open(path) else { continue };
        for _ in 0..16 {
            let mut buffer = [0; 64];
            let length = file.read_at(&mut buffer, 0).unwrap();
            let mut seen = &buffer[..length];
            while let [rest @ .., b'\n'] = seen {
                seen = rest;
            }
            match allowed.iter().any(|pid| pid.as_bytes() == seen) {
                true => seen_whole += 1,
                false => seen_else += i32::from(!seen.is_empty()),
            }
        }
    }
    if seen_whole == 0 { TOO_LITTLE } else { seen_else.min(TOO_LITTLE - 1) }
}

/// Acquires and releases beside two readers, each time in the state that `before` makes. Returns how often they read neither a
/// whole PID nor nothing.
fn seen_else(scratch: &Scratch, before: impl Fn(&str)) -> i32 {
    let path = scratch.path("a.pid");
    let mine = std::process::id().to_string();
    let (ready, stop) = (Pipe::new(), Pipe::new());
    let readers = [(); 2].map(|()| fork(|| read_on(path, [STALE, &mine], &ready, &stop)));
    readers.iter().for_each(|_| assert_eq!(ready.receive(), 0));
    for _ in 0..TURNS {
        before(path);
        PidLock::options().sync(false).acquire(path).unwrap().release().unwrap();
    }
    readers.iter().for_each(|_| stop.send(0));
    let ends = readers.map(Child::wait);
    ends.iter()
        .map(|end| match end {
            End::Exit(TOO_LITTLE) | End::Signal(_) => panic!("a reader ended with {end:?}"),
            End::Exit(number) => *number,
        })
        .sum()
}

#[test]
fn a_reader_of_a_new_file_sees_one_whole_pid_or_nothing() {
    assert_eq!(seen_else(&Scratch::new(), |_| ()), 0);
}

/// Linux does not order read(2) against a concurrent write(2). A reader in a tight loop sees digits of both PIDs in about 1 in
/// 20,000 overwrites. Between system calls that cannot happen, as tests/orders.rs shows. Without padding, readers would see it
/// in every second overwrite.
#[test]
fn a_reader_of_a_stale_file_hardly_ever_sees_a_part() {
    let scratch = Scratch::new();
    let planted = scratch.path("planted");
    let parts = seen_else(&scratch, |path| {
        // By rename, so that the reader does not see this write.
        fs::write(planted, format!("{STALE}\n")).unwrap();
        fs::rename(planted, path).unwrap();
    });
    println!("stamp: {parts} parts seen in {TURNS} overwrites");
    assert!(parts < 10, "{parts} parts seen in {TURNS} overwrites");
}
