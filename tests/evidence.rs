//! A signal needs evidence: the kernel must show which process has the lock, whatever the file claims and /proc hides.

mod support;

use pidflock::{Error, Pid, PidLock, Signal, State, probe, signal};
use std::{
    ffi::CString,
    fs,
    io::{Read, Write},
    mem,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, chown},
    },
    process::Stdio,
};
use support::*;

/// Held by an unknown process.
const NAMELESS: Error = Error::AlreadyLocked { holder: None };

const ALL: [Signal; 4] = [Signal::CHECK, Signal::HUP, Signal::TERM, Signal::KILL];

fn pid(number: i32) -> Pid {
    Pid::new(number).unwrap()
}

fn assert_all_refused(path: &str, error: Error) {
    for number in ALL {
        assert_eq!(signal(path, number), Err(error), "{number:?}");
    }
}

/// If there is more than one reason to refuse, any of them is right.
fn assert_all_refused_somehow(path: &str) {
    for number in ALL {
        let refused = signal(path, number);
        assert!(matches!(refused, Err(NAMELESS | Error::Untrusted)), "{number:?}: {refused:?}");
    }
}

/// If the kernel shows which process has the lock, that process is the holder, whatever the file claims.
fn assert_names(path: &str, holder: u32) {
    assert_eq!(signal(path, Signal::CHECK), Ok(Pid::try_from(holder).unwrap()));
}

/// Keeps this process and its children on the current processor.
fn stay_on_one_processor() {
    let mut one: libc::cpu_set_t = unsafe { mem::zeroed() };
    unsafe { libc::CPU_SET(libc::sched_getcpu() as usize, &mut one) };
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one) }, 0);
}

/// Runs `work` in a child that has no /proc.
fn without_proc(work: impl FnOnce()) {
    in_private_mounts(|| {
        assert!(mount(c"tmpfs", c"/proc", c""));
        work();
    });
}

/// From now on pidfd_open(2) fails as before Linux 5.3.
fn forbid_pidfds() {
    let instruction = |code: u32, k: u32, otherwise| libc::sock_filter { code: code as u16, jt: 0, jf: otherwise, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the call's number
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_pidfd_open as u32, 1),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
    assert_eq!(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) }, -1);
}

/// A lock on this file that a user's process took before it died, and left to a child.
struct Orphaned<'a> {
    path: &'a str,
    end: Pipe,
}

impl Orphaned<'_> {
    fn new(path: &str, user: u32) -> Orphaned<'_> {
        let end = Pipe::new();
        let launcher = fork(|| {
            become_user([user; 3]);
            let locked = lock(path);
            mem::forget(fork(|| {
                end.receive_within(60_000);
                0
            }));
            drop(locked);
            0
        });
        assert_eq!(launcher.wait(), End::Exit(0));
        assert!(is_locked(path));
        Orphaned { path, end }
    }
}

impl Drop for Orphaned<'_> {
    fn drop(&mut self) {
        self.end.send(0);
        let file = fs::File::open(self.path).unwrap();
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0); // the child has released it
    }
}

#[test]
fn a_stranger_with_the_number_that_the_holder_has_in_a_foreign_proc_is_not_signalled() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may make no namespaces");
    }
    let path = scratch.path("x.pid");
    for owner in [OTHER, 0] {
        plant(path, owner, 0o644, 0);
        let outside = Target::new(OTHER, || lock(path));
        plant(path, owner, 0o644, outside.number());
        in_pid_namespace(|| {
            let stranger = Target::numbered(outside.number(), 0, || ());
            assert_all_refused_somehow(path);
            assert_eq!(stranger.received(), 0);
        });
        assert_eq!(outside.received(), 0);
    }
}

#[test]
fn a_holder_that_has_another_number_in_a_foreign_proc_is_signalled() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may make no namespaces");
    }
    let path = scratch.path("x.pid");
    for owner in [OTHER, 0] {
        let outside = Target::stranger(); // that /proc has this process under the PID in the file
        plant(path, owner, 0o644, outside.number());
        in_pid_namespace(|| {
            let holder = Target::numbered(outside.number(), OTHER, || lock(path));
            assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())));
            assert_eq!(holder.received(), 1);
        });
        assert_eq!(outside.received(), 0);
    }
}

#[test]
fn without_pidfds_a_foreign_proc_is_not_believed() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may make no namespaces");
    }
    let (others, roots) = (scratch.path("others"), scratch.path("roots"));
    [others, roots].iter().for_each(|path| plant(path, OTHER, 0o644, 0));
    let outside = Target::new(OTHER, || lock(others));
    plant(others, OTHER, 0o644, outside.number());
    plant(roots, 0, 0o644, outside.number());
    in_pid_namespace(|| {
        let inside = Target::numbered(outside.number(), 0, || lock(roots));
        forbid_pidfds();
        assert_all_refused(others, Error::Untrusted);
        // Root's file is believed if the kernel shows nothing.
        assert_eq!(signal(roots, Signal::USR1), Ok(pid(inside.number())));
        assert_eq!(inside.received(), 1);
    });
    assert_eq!(outside.received(), 0);
}

#[test]
fn without_pidfds_a_proc_of_our_namespace_is_evidence() {
    if !is_root() || !sees_others() {
        return skip("only root can be two users, and see what others have open");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    plant(path, OTHER, 0o644, 0);
    let holder = Target::new(OTHER, || lock(path));
    let stranger = Target::new(OTHER, || ());
    let asker = fork(|| {
        panic_aloud();
        forbid_pidfds();
        plant(path, OTHER, 0o644, holder.number());
        assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())));
        plant(path, OTHER, 0o644, stranger.number());
        assert_names(path, holder.number().unsigned_abs());
        0
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!((holder.received(), stranger.received()), (1, 0));
}

#[test]
fn a_proc_in_which_we_have_no_number_is_not_believed() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may make no namespaces");
    }
    let path = scratch.path("x.pid");
    let stranger = Target::stranger();
    plant(path, OTHER, 0o644, stranger.number());
    in_private_mounts(|| {
        let (ready, end) = (Pipe::new(), Pipe::new());
        // Under the stranger's PID that /proc has a process of the file's owner, which has the lock.
        let _namespace = fork(|| {
            in_pid_namespace(|| {
                assert!(mount(c"proc", c"/proc", c""));
                let _trap = Target::numbered(stranger.number(), OTHER, || lock(path));
                ready.send(0);
                end.receive();
            });
            0
        });
        ready.receive();
        assert!(fs::exists(format!("/proc/{}", stranger.number())).unwrap());
        assert!(fs::read_link("/proc/self").is_err());
        assert_all_refused(path, Error::Untrusted);
        end.send(0);
    });
    assert_eq!(stranger.received(), 0);
}

#[test]
fn a_caller_without_a_main_thread_finds_the_evidence() {
    if !is_root() || !sees_others() {
        return skip("only root can be two users, and see what others have open");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    plant(path, OTHER, 0o644, 0);
    let holder = Target::new(OTHER, || lock(path));
    plant(path, OTHER, 0o644, holder.number());
    let asker = fork(|| {
        panic_aloud();
        let leader = unsafe { libc::getpid() };
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let stat = || fs::read_to_string(format!("/proc/{leader}/stat")).unwrap();
                while !stat().contains(") Z ") {
                    std::thread::yield_now();
                }
                let done = signal(path, Signal::USR1);
                unsafe { libc::_exit(i32::from(done != Ok(pid(holder.number())))) }
            });
            unsafe { libc::syscall(libc::SYS_exit, 0) }; // of this thread alone
        });
        PANICKED
    });
    assert_eq!(asker.wait(), End::Exit(0));
    assert_eq!(holder.received(), 1);
}

#[test]
fn without_sys_ptrace_a_stranger_named_in_a_stale_file_that_a_reader_has_locked_is_not_signalled() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let stranger = Target::new(OTHER, || ());
    plant(path, 0, 0o644, stranger.number());
    let reader = Target::new(THIRD, || lock(path));
    without_sys_ptrace(|| assert_all_refused(path, NAMELESS));
    assert_eq!((stranger.received(), reader.received()), (0, 0));
}

#[test]
fn without_sys_ptrace_the_holder_of_another_user_is_signalled() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for owner in [0, OTHER] {
        plant(path, owner, 0o644, 0);
        let holder = Target::new(OTHER, || lock(path));
        plant(path, owner, 0o644, holder.number());
        without_sys_ptrace(|| assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number()))));
        assert_eq!(holder.received(), 1);
    }
}

#[test]
fn the_number_that_a_daemon_in_a_pid_namespace_has_written_reaches_no_stranger_outside() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may make no namespaces");
    }
    let path = scratch.path("x.pid");
    let stranger = Target::new(OTHER, || ());
    let (ready, end) = (Pipe::new(), Pipe::new());
    let container = fork(|| {
        in_pid_namespace(|| {
            let daemon = Target::numbered(stranger.number(), 0, || PidLock::acquire(path).unwrap());
            ready.send(0);
            end.receive();
            assert_eq!(daemon.received(), 0);
        });
        0
    });
    ready.receive();
    assert_eq!(fs::read_to_string(path).unwrap(), format!("{}\n", stranger.number()));
    // The daemon has another PID here, and the kernel shows that it has the lock.
    let found = signal(path, Signal::CHECK).unwrap();
    assert!(found != pid(stranger.number()) && found != Pid::INIT, "{found}");
    without_sys_ptrace(|| assert_all_refused(path, NAMELESS));
    end.send(0);
    assert_eq!(container.wait(), End::Exit(0));
    assert_eq!(stranger.received(), 0);
}

#[test]
fn without_sys_ptrace_the_first_process_of_one_container_is_not_taken_for_that_of_another() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may make no namespaces");
    }
    let path = scratch.path("x.pid");
    let (ready, end, changed) = (Pipe::new(), Pipe::new(), Pipe::new());
    let holder = container(|| {
        let lock = PidLock::acquire(path).unwrap();
        assert_eq!(lock.pid(), Pid::INIT);
        ready.send(0);
        end.receive();
        lock.disown();
        0
    });
    ready.receive();
    let other = container(|| {
        let asker = fork(|| {
            changed.receive();
            without_sys_ptrace(|| {
                assert_all_refused(path, NAMELESS);
                assert_eq!(probe(path), Ok(State::Held { holder: None }));
            });
            0
        });
        // With another user, its descriptors are denied to the asker.
        assert_eq!(unsafe { libc::setresuid(OTHER, OTHER, OTHER) }, 0);
        changed.send(0);
        assert_eq!(asker.wait(), End::Exit(0));
        0
    });
    assert_eq!(other.wait(), End::Exit(0));
    end.send(0);
    assert_eq!(holder.wait(), End::Exit(0));
}

#[test]
fn without_sys_ptrace_a_dead_takers_lock_is_trusted_only_by_a_file_that_nobody_else_can_write() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    let holder = Target::new(OTHER, || ());
    plant(path, 0, 0o644, holder.number());
    let _orphaned = Orphaned::new(path, OTHER);
    without_sys_ptrace(|| {
        assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())));
        plant(path, 0, 0o664, holder.number());
        assert_all_refused(path, Error::Untrusted);
        plant(path, OTHER, 0o644, holder.number());
        assert_all_refused(path, Error::Untrusted);
    });
    assert_eq!(holder.received(), 1);
}

#[test]
fn a_holder_whose_main_thread_has_exited_is_signalled() {
    let scratch = Scratch::new();
    if !is_root() || !sees_others() {
        return skip("only root can be two users, and see what others have open");
    }
    let path = scratch.path("x.pid");
    for (owner, user) in [(0, 0), (OTHER, OTHER), (0, OTHER)] {
        plant(path, owner, 0o644, 0);
        let holder = Target::without_main_thread(user, path);
        plant(path, owner, 0o644, holder.number());
        let nothing = fs::read_dir(format!("/proc/{}/fdinfo", holder.number())).unwrap().count();
        assert_eq!(nothing, 0);
        assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())), "file of {owner}, holder of {user}");
        assert_eq!(holder.received(), 1);
    }
}

#[test]
fn a_stranger_whose_main_thread_has_exited_is_not_the_holder() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.path("x.pid"), scratch.path("other.pid"));
    fs::write(other, "").unwrap();
    let stranger = Target::without_main_thread(0, other);
    fs::write(path, format!("{}\n", stranger.number())).unwrap();
    let _locked = lock(path);
    assert_names(path, std::process::id());
    assert_eq!(stranger.received(), 0);
}

#[test]
fn on_a_file_system_that_hides_its_locks_a_file_that_only_root_can_write_is_believed() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may not mount");
    }
    let (path, another, told) = (scratch.path("x.pid"), scratch.path("another"), Pipe::new());
    fs::write(path, "").unwrap();
    fs::write(another, "").unwrap();
    in_private_mounts(|| {
        let Some(connection) = mount_fuse(path, "100644", 0) else { return told.send(0) };
        told.send(1);
        let _server = fork(|| serve_one_file(&connection));
        let holder = Target::holder(path);
        assert!(is_locked(path));
        assert!(!anything_locked(holder.number()), "the kernel knows of the lock");
        let _another = lock(another); // the kernel does show this one
        assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())));
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o664)).unwrap();
        assert_all_refused(path, Error::Untrusted);

        // There, too, the kernel shows that a process does not have the file open.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let stranger = Target::stranger();
        fs::write(path, format!("{}\n", stranger.number())).unwrap();
        assert_all_refused(path, NAMELESS);
        assert_eq!((holder.received(), stranger.received()), (1, 0));
    });
    if told.receive() == 0 {
        skip("no FUSE to mount here");
    }
}

/// Whether /proc says that this process has a lock of flock(2) on anything.
fn anything_locked(number: i32) -> bool {
    let infos = fs::read_dir(format!("/proc/{number}/fdinfo")).unwrap();
    let texts = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    texts.into_iter().any(|text| text.contains("FLOCK"))
}

/// Serves a FUSE file system that is one regular file, and implements flock(2) itself. The kernel then shows no lock.
fn serve_one_file(mut connection: &fs::File) -> i32 {
    let (mut content, mut mode, mut holder) = (Vec::new(), 0o644_u32, None);
    let mut request = vec![0; 1 << 16];
    loop {
        let Ok(length) = connection.read(&mut request) else { return 0 };
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        // struct fuse_in_header has 40 bytes: length, opcode, unique, ... (linux/fuse.h).
        let answer = match word(4) {
            2 | 36 => continue,                                           // FORGET, INTERRUPT: not to be answered
            26 => Ok(fuse_words(&[7, 22, 0, 1 << 10, 0, 4096])),          // INIT: FUSE_FLOCK_LOCKS
            3 => Ok(fuse_attributes(1, content.len(), 0o100_000 | mode)), // GETATTR
            4 => {
                // SETATTR: only changes of the mode and the size count.
                if word(40) & 1 != 0 {
                    mode = word(108) & 0o7777;
                }
                if word(40) & 8 != 0 {
                    content.resize(long(56) as usize, 0);
                }
                Ok(fuse_attributes(1, content.len(), 0o100_000 | mode))
            }
            14 => Ok(fuse_words(&[0, 0, 1, 0])), // OPEN: FOPEN_DIRECT_IO
            15 => Ok(content.iter().copied().skip(long(48) as usize).take(word(56) as usize).collect()), // READ
            16 => {
                let (from, data) = (long(48) as usize, &request[80..length]); // WRITE
                content.resize(content.len().max(from + data.len()), 0);
                content[from..from + data.len()].copy_from_slice(data);
                Ok(fuse_words(&[data.len() as u32, 0]))
            }
            18 => {
                holder = holder.filter(|owner| word(52) & 2 == 0 || *owner != long(56)); // RELEASE: ..._FLOCK_UNLOCK
                Ok(vec![])
            }
            32 | 33 => match (word(72) as i32, long(48)) {
                // SETLK, SETLKW
                (libc::F_UNLCK, owner) => {
                    holder = holder.filter(|holder| *holder != owner);
                    Ok(vec![])
                }
                (_, owner) if holder.is_some_and(|holder| holder != owner) => Err(-libc::EAGAIN),
                (kind, owner) => {
                    holder = (kind == libc::F_WRLCK).then_some(owner);
                    Ok(vec![])
                }
            },
            _ => Err(-libc::ENOSYS),
        };
        let (error, payload) = answer.map_or_else(|error| (error, vec![]), |payload| (0, payload));
        let _ = connection.write(&fuse_answer(&request, error, &payload)); // the caller may be gone
    }
}

fn fuse_words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// struct `fuse_attr_out`: valid for no time, owned by root, with one link.
fn fuse_attributes(inode: u64, size: usize, mode: u32) -> Vec<u8> {
    let numbers = [0, 0, inode, size as u64, 1, 0, 0, 0].map(u64::to_ne_bytes).concat(); // ..., blocks, times
    [numbers, fuse_words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat() // times, ..., owner, device, block size
}

fn fuse_answer(request: &[u8], error: i32, payload: &[u8]) -> Vec<u8> {
    [&fuse_words(&[16 + payload.len() as u32, error as u32])[..], &request[8..16], payload].concat()
}

#[test]
fn a_lock_on_a_file_with_the_same_inode_number_on_another_file_system_is_another_lock() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may not mount");
    }
    let [first, second] = ["first", "second"].map(|name| {
        fs::create_dir(scratch.path(name)).unwrap();
        CString::new(scratch.path(name)).unwrap()
    });
    let (path, other) = (scratch.path("first/x.pid"), scratch.path("second/x.pid"));
    in_private_mounts(|| {
        // Each new file system counts its inodes from 1.
        assert!(mount(c"tmpfs", &first, c"") && mount(c"tmpfs", &second, c""));
        [path, other].iter().for_each(|path| plant(path, 0, 0o644, 0));
        assert_eq!(fs::metadata(path).unwrap().ino(), fs::metadata(other).unwrap().ino());
        let stranger = Target::new(OTHER, || lock(other));
        let _locked = lock(path);
        plant(path, 0, 0o644, stranger.number());
        assert_names(path, std::process::id());
        without_sys_ptrace(|| assert_all_refused(path, NAMELESS));
        assert_eq!(stranger.received(), 0);
    });
}

/// As on btrfs: stat(2) and the kernel's list of locks have different numbers for the device.
#[test]
fn on_an_overlay_of_two_file_systems_the_holder_is_signalled_and_nobody_else() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may not mount");
    }
    let [lower, upper, both] = ["lower", "upper", "both"].map(|name| {
        fs::create_dir(scratch.path(name)).unwrap();
        CString::new(scratch.path(name)).unwrap()
    });
    let (path, told) = (scratch.path("both/x.pid"), Pipe::new());
    in_private_mounts(|| {
        stay_on_one_processor();
        assert!(mount(c"tmpfs", &lower, c"") && mount(c"tmpfs", &upper, c""));
        for name in ["upper/files", "upper/work"] {
            fs::create_dir(scratch.path(name)).unwrap();
        }
        let lower = (0..99).map(|number| format!("lower/{number}"));
        lower.for_each(|name| fs::write(scratch.path(&name), "").unwrap());
        let directory = scratch.directory.to_str().unwrap();
        let layers =
            format!("lowerdir={directory}/lower,upperdir={directory}/upper/files,workdir={directory}/upper/work");
        if !mount(c"overlay", &both, &CString::new(format!("{layers},xino=off")).unwrap()) {
            return told.send(0);
        }
        told.send(1);
        plant(path, 0, 0o644, 0);
        let device = fs::metadata(path).unwrap().dev();
        let device = format!("{:02x}:{:02x}:", libc::major(device), libc::minor(device));
        let stranger = Target::new(OTHER, || ());
        let holder = Target::new(THIRD, || lock(path));
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let line = locks.lines().find(|line| line.contains(&format!(" {} ", holder.number()))).unwrap();
        assert!(!line.contains(&device), "{line}: {device}");
        let ask = || {
            plant(path, 0, 0o644, holder.number());
            assert_eq!(signal(path, Signal::CHECK), Ok(pid(holder.number())));
            plant(path, 0, 0o644, stranger.number());
            let found = signal(path, Signal::CHECK);
            assert!([Ok(pid(holder.number())), Err(NAMELESS), Err(Error::Untrusted)].contains(&found), "{found:?}");
        };
        ask();
        without_sys_ptrace(ask);

        // Another file of the overlay has the same numbers. /proc/locks shows the later one first, of one processor.
        let inode = fs::metadata(path).unwrap().ino();
        let twin = (0..99).map(|number| scratch.path(&format!("both/{number}")));
        let twin = twin.into_iter().find(|twin| fs::metadata(twin).unwrap().ino() == inode).unwrap();
        let namesake = Target::new(OTHER, || lock(twin));
        let numbers = line.split(' ').find(|word| word.ends_with(&format!(":{inode}"))).unwrap();
        assert_eq!(fs::read_to_string("/proc/locks").unwrap().matches(numbers).count(), 2);
        plant(path, 0, 0o644, namesake.number());
        assert_eq!(signal(path, Signal::CHECK), Ok(pid(holder.number())));
        without_sys_ptrace(|| assert_all_refused_somehow(path));
        assert_eq!([holder, stranger, namesake].map(Target::received), [0; 3]);
    });
    if told.receive() == 0 {
        skip("no overlay to mount here");
    }
}

#[test]
fn without_proc_a_file_that_only_root_or_the_caller_can_write_is_believed_and_no_other() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may not mount");
    }
    let path = scratch.path("x.pid");
    plant(path, 0, 0o644, 0);
    let holder = Target::new(0, || lock(path));
    without_proc(|| {
        for (mode, believed) in [(0o644, true), (0o600, true), (0o664, false), (0o620, false), (0o646, false)] {
            plant(path, 0, mode, holder.number());
            let verdict = if believed { Ok(pid(holder.number())) } else { Err(Error::Untrusted) };
            assert_eq!(signal(path, Signal::USR1), verdict, "{mode:o}");
            if !believed {
                assert_all_refused(path, Error::Untrusted);
            }
        }
        plant(path, OTHER, 0o644, holder.number());
        assert_all_refused(path, Error::Untrusted);
    });
    assert!((1..=2).contains(&holder.received())); // the kernel merges pending signals
}

#[test]
fn without_proc_a_file_that_an_access_control_list_lets_others_write_is_untrusted() {
    let scratch = Scratch::new();
    if !may_make_namespaces() {
        return skip("this root may not mount");
    }
    let path = scratch.path("x.pid");
    plant(path, 0, 0o644, 0);
    let holder = Target::new(0, || lock(path));
    plant(path, 0, 0o644, holder.number());
    if !let_write(path, OTHER) {
        return skip("no access control lists on this file system");
    }
    without_proc(|| assert_all_refused(path, Error::Untrusted));
    // If the kernel shows that it has the lock, that is enough.
    assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())));
    assert_eq!(holder.received(), 1);
}

/// As `setfacl -m u:USER:rw`.
fn let_write(path: &str, user: u32) -> bool {
    // Version 2 of linux/posix_acl_xattr.h; then tag, permissions, user: owner, user, group, mask, others.
    let entries = [(0x01, 6, u32::MAX), (0x02, 6, user), (0x04, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 4, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, user) in entries {
        list.extend([u16::to_le_bytes(tag), u16::to_le_bytes(permissions)].concat());
        list.extend(u32::to_le_bytes(user));
    }
    let (path, name) = (CString::new(path).unwrap(), c"system.posix_acl_access".as_ptr());
    unsafe { libc::setxattr(path.as_ptr(), name, list.as_ptr().cast(), list.len(), 0) == 0 }
}

#[test]
fn in_a_user_namespace_that_maps_nobody_the_file_of_another_user_directs_no_signal() {
    let scratch = Scratch::new();
    if !is_root() {
        return skip("only root can be two users");
    }
    let enter = || unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
    if fork(|| i32::from(!enter())).wait() != End::Exit(0) {
        return skip("no user namespaces here");
    }
    let (orphaned, held) = (scratch.path("orphaned"), scratch.path("held"));
    plant(held, OTHER, 0o644, 0);
    let victim = Target::new(0, || {
        let file = lock(held);
        become_user([CALLER; 3]);
        file
    });
    for owner in [OTHER, 0] {
        plant(orphaned, owner, 0o644, victim.number());
        plant(held, owner, 0o644, victim.number());
        let _orphaned = Orphaned::new(orphaned, OTHER); // so nothing shows that it is not the victim's
        let asker = fork(|| {
            panic_aloud();
            become_user([CALLER; 3]);
            assert!(enter());
            assert_eq!(unsafe { libc::geteuid() }, 65534);
            assert_all_refused(orphaned, Error::Untrusted);
            assert_all_refused(held, Error::Untrusted);
            0
        });
        assert_eq!(asker.wait(), End::Exit(0));
    }
    assert_eq!(victim.received(), 0);
}

#[test]
fn a_process_with_only_the_effective_user_of_the_file_owner_is_not_signalled() {
    if !is_root() {
        return skip("only root can be two users");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    with_users(path, [THIRD, OTHER, THIRD], |holder| {
        assert_all_refused(path, Error::Untrusted);
        without_sys_ptrace(|| assert_all_refused(path, Error::Untrusted));
        assert_eq!(holder.received(), 0);
    });
}

#[test]
fn a_process_whose_real_or_saved_user_owns_the_file_is_signalled() {
    if !is_root() || !sees_others() {
        return skip("only root can be two users, and see what others have open");
    }
    let scratch = Scratch::new();
    let path = scratch.path("x.pid");
    for users in [[OTHER, THIRD, THIRD], [THIRD, THIRD, OTHER]] {
        with_users(path, users, |holder| {
            assert_eq!(signal(path, Signal::USR1), Ok(pid(holder.number())), "{users:?}");
            assert_eq!(holder.received(), 1);
        });
    }
}

/// A file of [`OTHER`] and its holder, whose real, effective and saved user these are.
fn with_users(path: &str, users: [u32; 3], ask: impl FnOnce(Target)) {
    plant(path, OTHER, 0o644, 0);
    let holder = Target::new(0, || {
        let file = lock(path);
        become_user(users);
        file
    });
    plant(path, OTHER, 0o644, holder.number());
    // The kernel agrees about which process the file's owner could have signalled.
    let owner = fork(|| {
        become_user([OTHER; 3]);
        i32::from(unsafe { libc::kill(holder.number(), 0) } != 0)
    });
    let could = users[0] == OTHER || users[2] == OTHER;
    assert_eq!(owner.wait(), End::Exit(i32::from(!could)));
    ask(holder);
}

#[test]
fn a_file_system_that_does_not_answer_does_not_delay_stop() {
    let scratch = Scratch::new();
    if !may_make_namespaces() || !sees_others() {
        return skip("only root may mount, and see what others have open");
    }
    let (path, mounted) = (scratch.path("x.pid"), scratch.path("mounted"));
    fs::create_dir(mounted).unwrap();
    fs::write(path, "").unwrap();
    let told = Pipe::new();
    let holder = Target::new(0, || {
        let connection = private_mounts().then(|| mount_fuse(mounted, "40000", 0)).flatten();
        // Even the inode number of the two files is the same.
        let inode = fs::metadata(path).unwrap().ino();
        let locked = connection.map(|connection| (lock_on_fuse(mounted, &connection, inode), connection));
        told.send(locked.is_some().into());
        (locked, PidLock::acquire(path).unwrap())
    });
    if told.receive() == 0 {
        return skip("no FUSE to mount here");
    }
    let arguments = ["stop", "-t", "1", "-k", path];
    let mut stop = pidflock().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let output = stop.stdout.take().unwrap(); // closed when it ends
    let mut ended = libc::pollfd { fd: output.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let in_time = unsafe { libc::poll(&raw mut ended, 1, 5000) } == 1;
    if !in_time {
        stop.kill().unwrap();
    }
    let status = stop.wait().unwrap();
    assert!(in_time, "stop waits for the other file system");
    assert_eq!(status.code(), Some(0));
    assert_eq!(holder.child.wait(), End::Signal(libc::SIGKILL));
}

#[test]
fn a_holder_with_an_open_file_that_cannot_be_checked_is_signalled() {
    if !is_root() || !sees_others() {
        return skip("only root may mount, and see what others have open");
    }
    let scratch = Scratch::new();
    let (path, mounted) = (scratch.path("x.pid"), scratch.path("mounted"));
    chown(&scratch.directory, Some(OTHER), Some(OTHER)).unwrap();
    fs::create_dir(mounted).unwrap();
    // A private file system of a user, and one whose server has died.
    for (user, error) in [(OTHER, libc::EACCES), (0, libc::ENOTCONN)] {
        let (told, broken) = (Pipe::new(), Pipe::new());
        let holder = Target::new(0, || {
            let opened = private_mounts().then(|| open_on_fuse(mounted, user)).flatten();
            told.send(opened.is_some().into());
            broken.send(opened.as_ref().map_or(-1, |(file, _)| file.as_raw_fd()));
            let file = opened.map(|(file, server)| (file, (user == OTHER).then_some(server)));
            become_user([OTHER; 3]);
            (file, PidLock::acquire(path).unwrap())
        });
        if told.receive() == 0 {
            return skip("no FUSE to mount here");
        }
        let broken = fs::metadata(format!("/proc/{}/fd/{}", holder.child.pid, broken.receive()));
        assert_eq!(broken.unwrap_err().raw_os_error(), Some(error));
        assert_eq!(signal(path, Signal::HUP), Ok(pid(holder.child.pid)));
        assert_eq!(holder.received(), 1);
    }
}

/// The root of a new file system of a user, and the connection to its server, which never answers.
fn open_on_fuse(directory: &str, user: u32) -> Option<(fs::File, fs::File)> {
    let server = mount_fuse(directory, "40000", user)?;
    Some((fs::File::options().read(true).custom_flags(libc::O_PATH).open(directory).unwrap(), server))
}

/// A file system of a user, whose root has this type and mode, and the connection to its server.
fn mount_fuse(target: &str, root: &str, user: u32) -> Option<fs::File> {
    let server = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
    let target = CString::new(target).unwrap();
    let options = format!("fd={},rootmode={root},user_id={user},group_id={user}", server.as_raw_fd());
    let options = CString::new(options).unwrap();
    mount(c"fuse", &target, &options).then_some(server)
}

/// A private file system of a user answers neither us nor root. So it cannot have the file that we have open.
#[test]
fn a_fuse_lock_that_cannot_be_checked_is_neither_taken_for_the_lock_nor_hides_it() {
    if !is_root() || !sees_others() {
        return skip("only root may mount, and see what others have open");
    }
    let scratch = Scratch::new();
    let (roots, others, mounted) = (scratch.path("roots"), scratch.path("x.pid"), scratch.path("mounted"));
    chown(&scratch.directory, Some(OTHER), Some(OTHER)).unwrap();
    fs::create_dir(mounted).unwrap();
    let told = Pipe::new();
    let holder = Target::new(0, || {
        let server = private_mounts().then(|| mount_fuse(mounted, "40000", OTHER)).flatten();
        become_user([OTHER; 3]);
        let locked = server.map(|server| (lock_on_fuse(mounted, &server, 1), server)); // before the other, for a lower number
        told.send(locked.is_some().into());
        (locked, PidLock::acquire(others).unwrap())
    });
    if told.receive() == 0 {
        return skip("no FUSE to mount here");
    }
    assert_eq!(signal(others, Signal::HUP), Ok(pid(holder.child.pid)));
    fs::write(roots, format!("{}\n", holder.child.pid)).unwrap(); // root's file, whose PID belongs to another process by now
    let _locked = lock(roots);
    assert_names(roots, std::process::id());
    assert_eq!(holder.received(), 1);
}

/// A lock on the root of that file system, an inode with this number. The server answers until the root is open.
fn lock_on_fuse(directory: &'static str, mut server: &fs::File, inode: u64) -> fs::File {
    let opened = std::thread::spawn(move || {
        assert_eq!(fs::metadata(directory).unwrap().ino(), inode);
        fs::File::open(directory).unwrap()
    });
    let (mut request, mut opcode) = ([0; 1 << 16], 0);
    while opcode != 27 {
        assert!(server.read(&mut request).unwrap() >= 40); // length, opcode, unique, ...: linux/fuse.h
        opcode = request[4];
        let (error, answer) = match opcode {
            26 => (0, fuse_words(&[7, 9, 0, 0, 0, 0])),   // INIT
            3 => (0, fuse_attributes(inode, 0, 0o40755)), // GETATTR
            27 => (0, fuse_words(&[0; 4])),               // OPENDIR
            _ => (-libc::ENOSYS, vec![]),
        };
        server.write_all(&fuse_answer(&request, error, &answer)).unwrap();
    }
    let file = opened.join().unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    file
}
