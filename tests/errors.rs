//! Every error is small, keeps the number that the kernel gave, and has a text.

use pidflock::{Call, Errno, Error, InvalidSignal, Message, Pid, Signal};

/// Every variant once, with its text.
fn errors() -> [(Error, &'static str); 9] {
    let sys = |call, errno| Error::Sys { call, errno };
    [
        (Error::AlreadyLocked { holder: Pid::new(4242) }, "already locked by process 4242"),
        (Error::AlreadyLocked { holder: None }, "already locked by an unknown process"),
        (Error::InvalidPath, "not the path of a file"),
        (Error::NotAPidFile, "not a regular file with one link"),
        (Error::Replaced, "replaced by another file"),
        (Error::NotLocked, "not locked"),
        (Error::Untrusted, "not trusted: users other than root and you can write it"),
        (sys(Call::Openat, Errno::NotFound), "openat: no such file or directory"),
        (sys(Call::PidfdSendSignal, Errno::Other(4321)), "pidfd_send_signal: error 4321"),
    ]
}

#[test]
fn an_error_fits_eight_bytes_and_is_copied() {
    fn is_plain<T: Copy + Send + Sync + Eq + std::hash::Hash + core::error::Error + 'static>() {}
    is_plain::<Error>();
    assert!(size_of::<Error>() <= 8, "{}", size_of::<Error>());
    assert!(size_of::<Result<(), Error>>() <= 8, "{}", size_of::<Result<(), Error>>());
}

#[test]
fn every_error_says_what_is_wrong_in_lower_case_and_without_a_full_stop() {
    for (error, text) in errors() {
        assert_eq!(error.to_string(), text);
        assert!(text.starts_with(|first: char| first.is_ascii_lowercase()), "{text}");
        assert!(!text.ends_with('.'), "{text}");
    }
}

/// The text as a program without `core::fmt` prints it.
fn spelled(message: Message) -> String {
    message.words.concat() + &message.number.map(|number| number.to_string()).unwrap_or_default()
}

#[test]
fn a_message_in_pieces_is_the_text_of_the_error() {
    for (error, text) in errors() {
        assert_eq!(spelled(error.message()), text);
        assert_eq!(error.message().to_string(), text);
    }
    for raw in 1..=133 {
        let errno = Errno::from_raw(raw);
        assert_eq!(spelled(errno.message()), errno.to_string());
    }
}

#[test]
fn the_errno_of_the_last_call_is_read_without_std() {
    assert_eq!(unsafe { libc::close(-1) }, -1);
    assert_eq!(Errno::last_os_error(), Errno::BadDescriptor);
    assert_eq!(unsafe { libc::open(c"/nowhere/at/all".as_ptr(), libc::O_RDONLY) }, -1);
    assert_eq!(Errno::last_os_error(), Errno::NotFound);
    assert_eq!(i32::from(Errno::last_os_error()), libc::ENOENT);
}

#[test]
fn only_a_failed_call_has_an_errno() {
    for (error, text) in errors() {
        let Error::Sys { errno, .. } = error else {
            assert_eq!((error.errno(), error.raw_os_error()), (None, None), "{text}");
            continue;
        };
        assert_eq!((error.errno(), error.raw_os_error()), (Some(errno), Some(errno.as_raw())), "{text}");
    }
}

#[test]
fn every_documented_number_has_its_name() {
    let table = [
        (libc::EACCES, Errno::PermissionDenied),
        (libc::EFAULT, Errno::BadAddress),
        (libc::EBADF, Errno::BadDescriptor),
        (libc::EPIPE, Errno::BrokenPipe),
        (libc::EDEADLK, Errno::Deadlock),
        (libc::EDESTADDRREQ, Errno::NoDestination),
        (libc::EDQUOT, Errno::QuotaExceeded),
        (libc::EEXIST, Errno::AlreadyExists),
        (libc::ETXTBSY, Errno::ExecutableFileBusy),
        (libc::EFBIG, Errno::FileTooLarge),
        (libc::EINVAL, Errno::InvalidInput),
        (libc::EIO, Errno::Io),
        (libc::EISDIR, Errno::IsADirectory),
        (libc::ELOOP, Errno::SymbolicLinkLoop),
        (libc::EMLINK, Errno::TooManyLinks),
        (libc::EMFILE, Errno::TooManyOpenFiles),
        (libc::ENAMETOOLONG, Errno::NameTooLong),
        (libc::ENFILE, Errno::TooManyOpenFilesInSystem),
        (libc::ENODEV, Errno::NoDevice),
        (libc::ENXIO, Errno::NoDeviceOrAddress),
        (libc::ENOTCONN, Errno::NotConnected),
        (libc::ENOEXEC, Errno::NotExecutable),
        (libc::ENOENT, Errno::NotFound),
        (libc::ESPIPE, Errno::NotSeekable),
        (libc::ENOLCK, Errno::NoLock),
        (libc::ENOMEM, Errno::OutOfMemory),
        (libc::EBUSY, Errno::ResourceBusy),
        (libc::ESTALE, Errno::StaleHandle),
        (libc::ENOSPC, Errno::StorageFull),
        (libc::ENOSYS, Errno::NotImplemented),
        (libc::ENOTDIR, Errno::NotADirectory),
        (libc::EOPNOTSUPP, Errno::NotSupported),
        (libc::EPERM, Errno::NotPermitted),
        (libc::EROFS, Errno::ReadOnlyFilesystem),
        (libc::ESRCH, Errno::NoProcess),
        (libc::ETIMEDOUT, Errno::TimedOut),
        (libc::E2BIG, Errno::TooManyArguments),
        (libc::EOVERFLOW, Errno::ValueTooLarge),
        (libc::EWOULDBLOCK, Errno::WouldBlock),
    ];
    for (raw, errno) in table {
        assert_eq!((Errno::from_raw(raw), errno.as_raw()), (errno, raw));
        let text = errno.to_string();
        assert!(text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.ends_with('.'), "{text:?}");
        assert!(!text.starts_with("error "), "{text:?}");
    }
    // MIPS has the highest: EDQUOT.
    let named = (1..=1133).filter(|raw| !matches!(Errno::from_raw(*raw), Errno::Other(_))).count();
    assert_eq!(named, table.len(), "a name that this table does not know");
}

/// The errors of the manual pages, by section 2 of Linux man-pages 6.03, without EINTR, which is retried. Also the known errors
/// of file systems over a network or in user space.
#[test]
#[cfg(target_os = "linux")]
fn every_number_of_a_manual_page_has_its_name() {
    use libc::*;
    #[rustfmt::skip]
    let pages: [(&str, &[i32]); 21] = [
        ("open", &[EACCES, EBADF, EBUSY, EDQUOT, EEXIST, EFAULT, EFBIG, EINVAL, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE,
            ENODEV, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, EOVERFLOW, EPERM, EROFS, ETXTBSY, EWOULDBLOCK]),
        ("mkdir", &[EACCES, EBADF, EDQUOT, EEXIST, EFAULT, EINVAL, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,
            ENOTDIR, EPERM, EROFS]),
        ("unlink", &[EACCES, EBADF, EBUSY, EFAULT, EINVAL, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR, EPERM,
            EROFS]),
        ("fcntl", &[EACCES, EAGAIN, EBADF, EBUSY, EDEADLK, EFAULT, EINVAL, EMFILE, ENOLCK, ENOTDIR, EPERM]),
        ("flock", &[EBADF, EINVAL, ENOLCK, EWOULDBLOCK, EOPNOTSUPP, ENOSYS]),
        ("stat", &[EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR, EOVERFLOW]),
        ("statx", &[EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR]),
        ("fchmod", &[EACCES, EBADF, EFAULT, EINVAL, EIO, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR, ENOTSUP, EPERM, EROFS]),
        ("lseek", &[EBADF, EINVAL, ENXIO, EOVERFLOW, ESPIPE]), // which pread and pwrite refer to
        ("read", &[EAGAIN, EBADF, EFAULT, EINVAL, EIO, EISDIR]),
        ("write", &[EAGAIN, EBADF, EDESTADDRREQ, EDQUOT, EFAULT, EFBIG, EINVAL, EIO, ENOSPC, EPERM, EPIPE]),
        ("ftruncate", &[EACCES, EBADF, EFAULT, EFBIG, EINVAL, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, EROFS,
            ETXTBSY]),
        ("fsync", &[EBADF, EDQUOT, EINVAL, EIO, ENOSPC, EROFS]),
        ("getdents", &[EBADF, EFAULT, EINVAL, ENOENT, ENOTDIR]),
        ("kill", &[EINVAL, EPERM, ESRCH]),
        ("clock_gettime", &[EACCES, EFAULT, EINVAL, ENODEV, ENOTSUP, EPERM]),
        ("pidfd_open", &[EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ESRCH, ENOSYS]),
        ("pidfd_send_signal", &[EBADF, EINVAL, EPERM, ESRCH, ENOSYS]),
        ("poll", &[EFAULT, EINVAL, ENOMEM]),
        ("execve", &[E2BIG, EACCES, EAGAIN, EFAULT, EINVAL, EIO, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT, ENOEXEC,
            ENOMEM, ENOTDIR, EPERM, ETXTBSY]),
        ("network and user space", &[ENOTCONN, ESTALE, ETIMEDOUT]),
    ];
    for (page, numbers) in pages {
        for number in numbers {
            let errno = Errno::from_raw(*number);
            assert!(!matches!(errno, Errno::Other(_)), "{page}: {errno}");
            assert!(include_str!("../doc/messages.md").contains(&format!("| `{errno}` |")), "{page}: {errno}");
        }
    }
}

#[test]
fn every_errno_keeps_its_number() {
    for raw in 1..=133 {
        let errno = Errno::from_raw(raw);
        assert_eq!(errno.as_raw(), raw);
        assert!(!errno.to_string().is_empty(), "{raw}");
        if let Errno::Other(number) = errno {
            assert_eq!(errno.to_string(), format!("error {number}"));
        }
    }
    assert_eq!(Errno::from_raw(65_534), Errno::Other(65_534));
    // Numbers that no kernel has.
    for raw in [65_535, 65_536, 65_538, i32::MAX, -1, -libc::ENOENT, i32::MIN] {
        assert_eq!(Errno::from_raw(raw), Errno::Other(u16::MAX), "{raw}");
    }
}

#[test]
#[cfg(feature = "std")]
fn an_io_error_keeps_the_number_or_the_whole_error() {
    use std::io::{self, ErrorKind};
    for (error, text) in errors() {
        let converted = io::Error::from(error);
        assert_eq!(converted.raw_os_error(), error.raw_os_error(), "{text}");
        match error {
            Error::Sys { .. } => {}
            Error::AlreadyLocked { .. } => assert_eq!(converted.kind(), ErrorKind::WouldBlock),
            _ => assert_eq!(converted.kind(), ErrorKind::Other, "{text}"),
        }
        if !matches!(error, Error::Sys { .. }) {
            let inner = converted.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            assert_eq!(inner, Some(&error));
            assert_eq!(converted.to_string(), text);
        }
    }
    let missing = io::Error::from(Error::Sys { call: Call::Openat, errno: Errno::NotFound });
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_signal_is_a_number_that_the_kernel_knows() {
    let last = libc::SIGRTMAX();
    for number in 0..=last {
        assert_eq!(Signal::from_raw(number).map(Signal::as_raw), Some(number));
    }
    for number in [i32::MIN, -libc::SIGTERM, -1, last + 1, i32::MAX] {
        assert_eq!(Signal::from_raw(number), None, "{number}");
    }
    assert_eq!(Signal::from_raw(0), Some(Signal::CHECK));
    assert_eq!(Signal::from_raw(libc::SIGKILL), Some(Signal::KILL));
}

#[test]
fn a_signal_has_its_name_with_and_without_sig_in_either_case() {
    let table = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("CHLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("PROF", libc::SIGPROF),
        ("VTALRM", libc::SIGVTALRM),
        ("IO", libc::SIGIO),
        ("WINCH", libc::SIGWINCH),
        ("SYS", libc::SIGSYS),
    ];
    for (name, number) in table {
        let lower = name.to_lowercase();
        for name in [name.into(), format!("SIG{name}"), lower.clone(), format!("sig{lower}"), format!("Sig{lower}")] {
            assert_eq!(Signal::from_name(&name).map(Signal::as_raw), Some(number), "{name}");
        }
        assert_eq!(format!("{:?}", Signal::from_raw(number).unwrap()), name);
    }
    let rubbish = [
        "",
        "SIG",
        "sig",
        "S",
        "SI",
        "SIGSIGTERM",
        "TERM ",
        " TERM",
        "-TERM",
        "TERMINATE",
        "TER",
        "15",
        "0",
        "SIG15",
        "\0",
        "é",
        "SIé",
        "SIGé",
    ];
    for name in rubbish {
        assert_eq!(Signal::from_name(name), None, "{name:?}");
    }
}

#[test]
fn a_signal_is_parsed_from_a_name_or_a_number_and_printed_as_it_is_parsed() {
    for number in 0..=libc::SIGRTMAX() {
        let signal = Signal::from_raw(number).unwrap();
        assert_eq!(signal.to_string().parse(), Ok(signal));
        assert_eq!(Signal::parse(number.to_string().as_bytes()), Some(signal));
    }
    assert_eq!((Signal::QUIT.to_string(), Signal::CHECK.to_string()), ("QUIT".to_owned(), "0".to_owned()));
    assert_eq!("sigusr2".parse(), Ok(Signal::USR2));
    for text in ["", "+9", "-9", "9 ", "4242", "99999999999", "TERM ", "SIG15", "é"] {
        assert_eq!(text.parse::<Signal>(), Err(InvalidSignal), "{text:?}");
        assert_eq!(Signal::parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(Signal::parse(b"TERM\xff"), None);
    assert!(Signal::HUP < Signal::KILL && Signal::KILL < Signal::TERM);
    assert_eq!(InvalidSignal.to_string(), "not a signal");
}
