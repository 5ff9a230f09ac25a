//! A number becomes a `Pid` only if it can name exactly one process, and a file's claim is exactly its first line.

mod support;

use pidflock::{Call, Error, FromRawFd, InvalidPid, OwnedFd, Pid, PidLock, read_pid, read_pid_from};
use std::fs;
use support::*;

#[test]
fn only_a_positive_number_is_a_pid() {
    for number in [i32::MIN, -4242, -1, 0] {
        assert_eq!(Pid::new(number), None, "{number}");
    }
    for number in [1, 2, 4242, 32_768, 4_194_304, i32::MAX] {
        let pid = Pid::new(number).unwrap();
        assert_eq!((pid.get(), pid.as_u32()), (number, number.unsigned_abs()));
        assert_eq!((format!("{pid}"), format!("{pid:?}")), (number.to_string(), number.to_string()));
    }
    assert_eq!(Pid::INIT, Pid::new(1).unwrap());
    assert_eq!(size_of::<Option<Pid>>(), 4);
}

#[test]
fn a_pid_converts_to_numbers_and_text_and_back() {
    for number in [1, 9, 10, 4242, 4_194_304, i32::MAX] {
        let pid = Pid::new(number).unwrap();
        assert_eq!((Pid::from_raw(number), pid.as_raw(), i32::from(pid)), (Some(pid), number, number));
        assert_eq!((Pid::try_from(number), Pid::try_from(u32::from(pid))), (Ok(pid), Ok(pid)));
        assert_eq!(pid.to_string().parse(), Ok(pid));
    }
    for number in [0, -1, i32::MIN] {
        assert_eq!((Pid::from_raw(number), Pid::try_from(number)), (None, Err(InvalidPid)));
    }
    assert_eq!(Pid::try_from(u32::MAX), Err(InvalidPid));
    assert_eq!(Pid::try_from(2_147_483_648_u32), Err(InvalidPid));
    for text in ["", "0", "-1", "+5", " 5", "5 ", "5\n", "12abc", "2147483648"] {
        assert_eq!(text.parse::<Pid>(), Err(InvalidPid), "{text:?}");
    }
    assert_eq!((Pid::INIT.get(), Pid::MAX.get()), (1, i32::MAX));
    assert_eq!(InvalidPid.to_string(), "not a process ID");
}

#[test]
fn a_claim_is_one_decimal_number_on_the_first_line() {
    let good: &[(&str, i32)] = &[
        ("4242\n", 4242),
        ("4242", 4242),
        ("  7 \t\n", 7),
        ("\t7", 7),
        ("2147483647\n", i32::MAX),
        ("0042\n", 42),
        ("00000000000000000000000000000042\n", 42),
        ("12\nanything", 12),
        ("12\n\n\n\n", 12),
        ("12\n\0", 12),
        ("12\0", 12),
        ("12\0\0garbage", 12),
        ("12\r\n", 12),
        ("12 \r", 12),
    ];
    for (text, number) in good {
        assert_eq!(Pid::parse(text.as_bytes()), Pid::new(*number), "{text:?}");
    }
    let bad = [
        "",
        "\n",
        "\n12\n",
        " ",
        "0",
        "000",
        "-1",
        "+5",
        "12abc",
        "abc",
        "99999999999",
        "2147483648",
        "4294967297",
        "1 2",
        "1\t2",
        "1,2",
        "0x10",
        "1e3",
        "\0",
        "\0\0\0\0",
        "\x0012",
        "\r12",
        "12\r34\n",
        "12 host",
        "12\x0b",
        "\u{0661}",
    ];
    for text in bad {
        assert_eq!(Pid::parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(Pid::parse(b"\xff12"), None);
}

/// Only 64 bytes are read. A first line that does not end in them may go on with anything.
#[test]
fn a_first_line_of_more_than_63_bytes_is_no_claim() {
    let blanks = |count| " ".repeat(count);
    let table = [
        (blanks(59) + "4242", Some(4242)), // 63 bytes
        (blanks(59) + "4242\n", Some(4242)),
        (blanks(59) + "4242\nand a megabyte more" + &blanks(1 << 20), Some(4242)),
        (blanks(60) + "4242", None), // 64 bytes
        (blanks(60) + "4242\n", None),
        (blanks(62) + "4242", None), // 42 for a reader that believes 64 bytes
        (blanks(64) + "7", None),
        (blanks(64) + "\n7", None),
        ("7".to_owned() + &blanks(63), None),
        ("1".repeat(70), None),
        ("0".repeat(70), None),
        ("0".repeat(62) + "7", Some(7)),
        ("1".repeat(1 << 20), None),
        ("7\n".to_owned() + &"1".repeat(1 << 20), Some(7)),
    ];
    for (text, number) in table {
        let start: String = text.chars().take(80).collect();
        assert_eq!(Pid::parse(text.as_bytes()).map(Pid::get), number, "{} bytes: {start:?}", text.len());
    }
}

/// The page has a table with a file's text as a Rust string, and its claim.
#[test]
fn every_format_of_the_page_is_read_as_the_page_says() {
    let page = include_str!("../doc/coming-from.md");
    let (_, section) = page.split_once("\n## Formats of PID files\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut rows = 0;
    for row in section.lines().filter_map(|line| line.strip_prefix("| `\"")) {
        let (text, rest) = row.split_once("\"` | ").unwrap();
        let text = text.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t").replace("\\0", "\0");
        let claim = rest.split(" | ").next().unwrap();
        assert_eq!(Pid::parse(text.as_bytes()).map_or("none".to_owned(), |pid| pid.to_string()), claim, "{text:?}");
        rows += 1;
    }
    assert!(rows >= 12, "{rows} rows");
}

/// The rules again, in other words.
fn reference(bytes: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = match text.split_once(['\n', '\0']) {
        Some((line, _)) => line,
        None => text,
    };
    let digits = line.trim_end_matches([' ', '\t', '\r']).trim_start_matches([' ', '\t']);
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if only_digits { digits.parse().ok()? } else { 0 };
    if number > 0 { Some(number) } else { None }
}

#[test]
fn every_short_text_is_read_as_an_independent_parser_reads_it() {
    let alphabet = b"019 \t\n-+\r\0";
    let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
    let mut start = 0;
    for _ in 0..4 {
        let end = texts.len();
        for index in start..end {
            for byte in alphabet {
                let longer = [&texts[index][..], &[*byte]].concat();
                texts.push(longer);
            }
        }
        start = end;
    }
    assert_eq!(texts.len(), 1 + 10 + 100 + 1_000 + 10_000);
    for text in texts {
        assert_eq!(Pid::parse(&text).map(Pid::get), reference(&text), "{:?}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_file_without_a_claim_reads_as_none() {
    let scratch = Scratch::new();
    assert_eq!(read_pid_from(scratch.path("missing")), Ok(None));
    assert_eq!(read_pid_from(scratch.path("no/such/directory")), Ok(None));
    for text in ["", "\n", "0\n", "-1\n", "rubbish"] {
        fs::write(scratch.path("file"), text).unwrap();
        assert_eq!(read_pid_from(scratch.path("file")), Ok(None), "{text:?}");
    }
    fs::write(scratch.path("file"), "4242\n").unwrap();
    assert_eq!(read_pid_from(scratch.path("file")), Ok(Pid::new(4242)));
    fs::write(scratch.path("file"), format!("7\n{}", "x".repeat(1 << 20))).unwrap();
    assert_eq!(read_pid_from(scratch.path("file")), Ok(Pid::new(7)));
}

#[test]
fn the_claim_of_a_lock_is_its_pid() {
    let scratch = Scratch::new();
    let lock = PidLock::acquire(scratch.path("a.pid")).unwrap();
    assert_eq!(read_pid(&lock), Ok(Some(lock.pid())));
    assert_eq!(read_pid_from(scratch.path("a.pid")), Ok(Some(lock.pid())));
}

#[test]
#[cfg(feature = "std")]
fn reading_a_claim_does_not_move_the_file_offset() {
    use std::io::{Read, Seek, SeekFrom};
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "4242\nrest").unwrap();
    let mut file = fs::File::open(scratch.path("file")).unwrap();
    for offset in [0, 5, 1000] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        assert_eq!(read_pid(&file), Ok(Pid::new(4242)));
        assert_eq!(file.stream_position().unwrap(), offset);
    }
    file.seek(SeekFrom::Start(5)).unwrap();
    assert_eq!(read_pid(&file), Ok(Pid::new(4242)));
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "rest");
}

#[test]
fn what_cannot_be_read_at_an_offset_is_an_error() {
    let scratch = Scratch::new();
    let error_of = |fd: i32| {
        assert!(fd > 2);
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let error = read_pid(&fd).unwrap_err();
        assert!(matches!(error, Error::Sys { call: Call::Pread, .. }), "{error}");
        error.raw_os_error()
    };
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    assert_eq!(error_of(ends[0]), Some(libc::ESPIPE));
    assert!(error_of(ends[1]).is_some());

    let open = |name: &str, flags: i32| {
        let path = std::ffi::CString::new(name).unwrap();
        unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }
    };
    fs::write(scratch.path("file"), "4242\n").unwrap();
    assert_eq!(error_of(open(scratch.path("file"), libc::O_WRONLY)), Some(libc::EBADF));
    assert_eq!(error_of(open(scratch.path(""), libc::O_RDONLY)), Some(libc::EISDIR));
}
