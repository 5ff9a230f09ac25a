//! At every instant, to every reader, the file reads as one whole PID or as nothing.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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
fn nothing_is_left_of_what_was_there_before() {
    let scratch = Scratch::new();
    let path = scratch.path("a.pid");
    let mut contents: Vec<Vec<u8>> =
        [0, 1, 2, 5, 6, 7, 8, 11, 12, 20, 31, 32, 33, 64, 1000, 1 << 20].map(|n| vec![b'9'; n]).into();
    contents.extend([STALE, "2147483647\n", "1\n", "\n", "7\nmore\n"].map(|text| text.as_bytes().to_vec()));
    contents.push(vec![0; 20]);
    for content in contents {
        // A file that is not to be removed is written over.
        for (sync, remove) in [(true, true), (false, true), (true, false)] {
            fs::write(path, &content).unwrap();
            let lock = PidLock::options().sync(sync).remove_on_release(remove).acquire(path).unwrap();
            let stamped = fs::read(path).unwrap();
            assert_eq!(stamped, format!("{}\n", lock.pid()).as_bytes(), "over {} bytes", content.len());
        }
    }
}

/// What a reader ends with that has seen something else than a whole PID or nothing.
const SOMETHING_ELSE: i32 = 1;

/// What a reader ends with that was too slow to see anything.
const TOO_LITTLE: i32 = 2;

/// Reads as fast as it can what is at the path, until told to stop: 0 if it saw these, and nothing else.
fn read_on(path: &str, allowed: [&str; 2], ready: &Pipe, stop: &Pipe) -> i32 {
    ready.send(0);
    let mut times_seen = [0; 2];
    while stop.receive_within(0).is_none() {
        let Ok(file) = fs::File::open(path) else { continue };
        for _ in 0..16 {
            let mut buffer = [0; 64];
            let length = file.read_at(&mut buffer, 0).unwrap();
            let mut seen = &buffer[..length];
            while let [rest @ .., b'\n'] = seen {
                seen = rest;
            }
            match allowed.iter().position(|pid| pid.as_bytes() == seen) {
                Some(index) => times_seen[index] += 1,
                None if seen.is_empty() => {}
                None => return SOMETHING_ELSE,
            }
        }
    }
    if times_seen.contains(&0) { TOO_LITTLE } else { 0 }
}

#[test]
fn a_reader_sees_one_whole_pid_or_nothing() {
    let scratch = Scratch::new();
    let (path, planted) = (scratch.path("a.pid"), scratch.path("planted"));
    let mine = std::process::id().to_string();
    let (ready, stop) = (Pipe::new(), Pipe::new());
    let readers = [(); 2].map(|()| fork(|| read_on(path, [STALE, &mine], &ready, &stop)));
    for _ in &readers {
        ready.receive();
    }
    for _ in 0..TURNS {
        // By rename, so that the reader does not see us write.
        fs::write(planted, format!("{STALE}\n")).unwrap();
        fs::rename(planted, path).unwrap();
        PidLock::options().sync(false).acquire(path).unwrap().release().unwrap();
    }
    for _ in &readers {
        stop.send(0);
    }
    for reader in readers {
        assert_eq!(reader.wait(), End::Exit(0), "{SOMETHING_ELSE}: it saw a part");
    }
}
