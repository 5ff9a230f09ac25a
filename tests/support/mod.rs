//! What the tests share: a directory of their own, forked children, and pipes over which processes meet.
#![allow(dead_code, reason = "each test file uses only a part")]

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// A directory that goes away with its owner, and the right to run alone.
///
/// Tests of one file run one at a time: a forked child has copies of all descriptors of the whole process, and would
/// keep the locks of another test.
pub struct Scratch {
    pub directory: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch::below(std::env::temp_dir())
    }

    /// The same on a tmpfs, where there is one: for tests that are about order and not about disks.
    pub fn in_memory() -> Scratch {
        let memory = PathBuf::from("/dev/shm");
        Scratch::below(if memory.is_dir() { memory } else { std::env::temp_dir() })
    }

    fn below(parent: PathBuf) -> Scratch {
        static ALONE: Mutex<()> = Mutex::new(());
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("pidflock-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = parent.join(name);
        fs::create_dir(&directory).unwrap();
        Scratch { directory, _alone: alone }
    }

    /// A path in it. Leaked, so that children, threads and both feature sets can have it as a plain `&str`.
    pub fn path(&self, name: &str) -> &'static str {
        self.directory.join(name).into_os_string().into_string().unwrap().leak()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

/// What a panicking child exits with.
pub const PANICKED: i32 = 101;

/// A forked child. Killed and waited for on drop.
pub struct Child {
    pub pid: i32,
    ended: bool,
}

/// Forks a child that runs `work` and exits with what it returns, without unwinding into the test.
pub fn fork(work: impl FnOnce() -> i32) -> Child {
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
            unsafe { libc::_exit(code) }
        }
        pid => Child { pid, ended: false },
    }
}

impl Child {
    /// A child that was forked elsewhere.
    pub fn of(pid: i32) -> Child {
        Child { pid, ended: false }
    }

    pub fn kill(&self, signal: i32) {
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0, "kill: {}", io::Error::last_os_error());
    }

    pub fn wait(mut self) -> End {
        self.ended = true;
        wait_for(self.pid)
    }

    /// Kills it, and returns once it is dead and gone.
    pub fn kill_and_wait(self) {
        self.kill(libc::SIGKILL);
        self.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            wait_for(self.pid);
        }
    }
}

/// Waits for one child.
pub fn wait_for(pid: i32) -> End {
    let mut status = 0;
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waitpid: {error}");
    }
    if libc::WIFEXITED(status) { End::Exit(libc::WEXITSTATUS(status)) } else { End::Signal(libc::WTERMSIG(status)) }
}

/// A pipe: processes wait for each other with it, and pass numbers.
pub struct Pipe {
    read: i32,
    write: i32,
}

impl Pipe {
    pub fn new() -> Pipe {
        let mut ends = [0; 2];
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        Pipe { read: ends[0], write: ends[1] }
    }

    pub fn send(&self, number: i32) {
        let bytes = number.to_ne_bytes();
        assert_eq!(unsafe { libc::write(self.write, bytes.as_ptr().cast(), 4) }, 4);
    }

    /// The next number. Panics if none comes within ten seconds, so that a lost process is a failure and no hang.
    pub fn receive(&self) -> i32 {
        self.receive_within(10_000).expect("nobody has sent anything for ten seconds")
    }

    pub fn receive_within(&self, milliseconds: i32) -> Option<i32> {
        let mut entry = libc::pollfd { fd: self.read, events: libc::POLLIN, revents: 0 };
        while unsafe { libc::poll(&raw mut entry, 1, milliseconds) } == -1 {}
        let mut bytes = [0; 4];
        let arrived = entry.revents & libc::POLLIN != 0;
        (arrived && unsafe { libc::read(self.read, bytes.as_mut_ptr().cast(), 4) } == 4)
            .then(|| i32::from_ne_bytes(bytes))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        unsafe { libc::close(self.read) };
        unsafe { libc::close(self.write) };
    }
}

/// The numbers of all open descriptors of this process.
pub fn descriptors() -> Vec<i32> {
    let numbers = fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<i32> =
        numbers.filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().ok()).collect();
    numbers.retain(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } != -1); // not the listing's own
    numbers.sort_unstable();
    numbers
}

/// Returns once the process sleeps, in whatever call.
pub fn until_asleep(pid: i32) {
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().and_then(|rest| rest.chars().nth(1)).unwrap()
    };
    while state() != 'S' {
        assert_ne!(state(), 'Z', "it has ended instead");
        std::thread::yield_now();
    }
}

/// Whether some other open file has the lock on this one, by asking the kernel and not the crate.
pub fn is_locked(path: impl AsRef<Path>) -> bool {
    let file = fs::File::open(path).unwrap();
    let asked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
    asked == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK)
}

/// The command under test.
pub fn pidflock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pidflock"))
}

/// A terminal: the end that a person reads, and the one that a program writes to.
pub fn terminal() -> (fs::File, fs::File) {
    let open = |path: &str| fs::File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
    let person = open("/dev/ptmx");
    let mut name = [0; 64];
    assert_eq!(unsafe { libc::unlockpt(person.as_raw_fd()) }, 0);
    assert_eq!(unsafe { libc::ptsname_r(person.as_raw_fd(), name.as_mut_ptr(), name.len()) }, 0);
    let program = open(unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_str().unwrap());
    (person, program)
}

pub fn is_root() -> bool {
    unsafe { libc::geteuid() == 0 }
}

/// Says that a test could not do its work here, and why. `ci/check` counts these lines, and CI allows none.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// In a forked child: a mount namespace of its own, in which nothing it mounts is seen by others. Needs root.
pub fn private_mounts() -> bool {
    let none = std::ptr::null();
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    unshared && unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) } == 0
}

/// Attributes of a file: `FS_IMMUTABLE_FL` and `FS_APPEND_FL` of linux/fs.h.
pub const IMMUTABLE: libc::c_int = 0x10;
pub const APPEND_ONLY: libc::c_int = 0x20;

/// An attribute of a file, as chattr(1) sets it, for as long as this lives.
pub struct Attribute<'a>(&'a str, libc::c_int);

impl Attribute<'_> {
    /// None where the file system has no attributes, or we may not set them.
    pub fn set(path: &str, flag: libc::c_int) -> Option<Attribute<'_>> {
        change_attributes(path, |flags| flags | flag).then_some(Attribute(path, flag))
    }
}

impl Drop for Attribute<'_> {
    fn drop(&mut self) {
        assert!(change_attributes(self.0, |flags| flags & !self.1));
    }
}

fn change_attributes(path: &str, change: impl Fn(libc::c_int) -> libc::c_int) -> bool {
    let file = fs::File::open(path).unwrap();
    let mut flags: libc::c_int = 0;
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) } == -1 {
        return false;
    }
    flags = change(flags);
    unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) == 0 }
}

/// What a child exits with where it may not do what the test needs.
pub const NOT_ALLOWED: i32 = 77;

/// A child whose own child does `work` as PID 1 of a new PID namespace, with a /proc to match, as in a container. Ends as
/// `work` does, or with `NOT_ALLOWED`.
pub fn container(work: impl FnOnce() -> i32) -> Child {
    fork(|| {
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 || !private_mounts() {
            return NOT_ALLOWED;
        }
        let first = fork(|| {
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let (kind, none) = (c"proc".as_ptr(), std::ptr::null());
            let mounted = unsafe { libc::mount(kind, c"/proc".as_ptr(), kind, 0, none) } == 0;
            if mounted { work() } else { NOT_ALLOWED }
        });
        match first.wait() {
            End::Exit(code) => code,
            End::Signal(_) => PANICKED,
        }
    })
}

/// In a container: a child with this number, which must be free.
pub fn fork_as(number: i32, work: impl FnOnce() -> i32) -> Child {
    fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
    let child = fork(work);
    assert_eq!(child.pid, number, "somebody else has forked");
    child
}

/// What a filter answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// The call fails with this errno.
    Error(libc::c_int),
    /// The process dies of SIGSYS.
    Kill,
}

/// From now on, for this process and what it becomes: the kernel gives this answer to a call. With `lacking`, the number of
/// an argument and some bits, only if that argument has none of these.
#[cfg(target_os = "linux")]
pub fn filter(call: libc::c_long, lacking: Option<(u32, libc::c_int)>, answer: Answer) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let jump = |test: u32, jt, jf, k| step(libc::BPF_JMP | test | libc::BPF_K, jt, jf, k);
    let result = |result| step(libc::BPF_RET | libc::BPF_K, 0, 0, result);
    let (argument, bits) = lacking.unwrap_or_default();
    let low_word = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut program = [
        load(0), // the number of the call: the first word of seccomp_data
        jump(libc::BPF_JEQ, 0, 3, call as u32),
        load(16 + 8 * argument + low_word),
        jump(libc::BPF_JSET, 1, 0, bits as u32),
        result(match answer {
            Answer::Error(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }),
        result(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, 0);
}

/// Locks a file without a stamp.
pub fn lock(path: &str) -> fs::File {
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    file
}

/// A lock whose taker has died, and left it to a child.
pub struct Inherited {
    fork: Pipe,
    forked: Pipe,
    end: Pipe,
}

impl Inherited {
    pub fn new(path: &str) -> Inherited {
        let [fork_again, forked, end] = [(); 3].map(|()| Pipe::new());
        let taker = fork(|| {
            let file = lock(path);
            let child = fork(|| {
                if fork_again.receive_within(-1) == Some(0) {
                    std::mem::forget(fork(|| {
                        forked.send(0);
                        end.receive_within(-1);
                        0
                    }));
                }
                end.receive_within(-1);
                0
            });
            std::mem::forget((file, child));
            0
        });
        assert_eq!(taker.wait(), End::Exit(0));
        Inherited { fork: fork_again, forked, end }
    }

    /// From now on, two processes share the lock.
    pub fn fork_once_more(&self) {
        self.fork.send(0);
        self.forked.receive_within(1000);
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        self.fork.send(1);
        self.end.send(0);
        self.end.send(0);
    }
}

/// A child that has a lease on a file, as Samba and NFS servers take them: nobody can open the file until it gives the
/// lease up. It does so when it is told to, or, `polite`, when the kernel asks for it. None where there are no leases.
#[cfg(target_os = "linux")]
pub fn lease(path: &str, polite: bool) -> Option<(Child, Pipe)> {
    let (taken, go) = (Pipe::new(), Pipe::new());
    let child = fork(|| {
        let (mut asked, mut number): (libc::sigset_t, libc::c_int) = unsafe { std::mem::zeroed() };
        unsafe { libc::sigaddset(&raw mut asked, libc::SIGIO) };
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const asked, std::ptr::null_mut()) };
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let lease = |kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        taken.send(lease(libc::F_WRLCK));
        if polite {
            unsafe { libc::sigwait(&raw const asked, &raw mut number) };
        } else {
            go.receive();
        }
        lease(libc::F_UNLCK)
    });
    (taken.receive() == 0).then_some((child, go))
}
