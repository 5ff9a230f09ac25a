//! Shared code of the tests: scratch directories, forked children, and pipes by which processes wait for each other.
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

    /// The same on a tmpfs if there is one, for tests of order that must not depend on disks.
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

    /// A path in it. Leaked, so that children, threads and both feature sets can use it as a plain `&str`.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

/// The exit code of a panicking child.
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

    /// The next number. Panics if none comes within ten seconds, so that a lost process is a failure and not a hang.
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

/// Returns once the process sleeps, in any call.
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

/// Whether another open file has the lock on this one. This asks the kernel and not the crate. A missing file has no lock.
pub fn is_locked(path: impl AsRef<Path>) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let asked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
    asked == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK)
}

/// The command under test.
pub fn pidflock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pidflock"))
}

/// A terminal: the end that a person reads, and the end that a program writes.
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

/// Prints that a test cannot run here, and why. `ci/check` counts these lines, and CI allows none.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// In a forked child: creates a separate mount namespace, so that no other process sees its mounts. Needs root.
pub fn private_mounts() -> bool {
    let none = std::ptr::null();
    let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    unshared && unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) } == 0
}

/// Attributes of a file: `FS_IMMUTABLE_FL` and `FS_APPEND_FL` of linux/fs.h.
pub const IMMUTABLE: libc::c_int = 0x10;
pub const APPEND_ONLY: libc::c_int = 0x20;

/// An attribute of a file, as chattr(1) sets it, until this is dropped.
pub struct Attribute<'a>(&'a str, libc::c_int);

impl Attribute<'_> {
    /// None if the file system has no attributes, or we may not set them.
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

/// The exit code of a child that lacks the rights for its test.
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

/// In a container: a child with this PID, which must be free.
pub fn fork_as(number: i32, work: impl FnOnce() -> i32) -> Child {
    fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
    let child = fork(work);
    assert_eq!(child.pid, number, "somebody else has forked");
    child
}

/// Users without rights. None is 65534, which the kernel shows for every user that a namespace does not map.
pub const CALLER: u32 = 60_001;
pub const OTHER: u32 = 60_002;
pub const THIRD: u32 = 60_003;

/// Sets the real, effective and saved user of this process, and leaves it only the real user's group. /proc shows the process as
/// theirs.
pub fn become_user([real, effective, saved]: [u32; 3]) {
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    assert_eq!(unsafe { libc::setresgid(real, real, real) }, 0);
    assert_eq!(unsafe { libc::setresuid(real, effective, saved) }, 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
}

/// Capabilities of linux/capability.h: to signal others' processes, to see what they have open, and to open any file.
pub const CAP_DAC_READ_SEARCH: u32 = 1 << 2;
pub const CAP_KILL: u32 = 1 << 5;
pub const CAP_SYS_PTRACE: u32 = 1 << 19;

/// `_LINUX_CAPABILITY_VERSION_3`, and the number of no other process.
const THIS_PROCESS: [u32; 2] = [0x2008_0522, 0];

/// Effective, permitted and inheritable: the lower halves, then the upper.
fn capabilities() -> [u32; 6] {
    // The kernel may write to it; qemu-user always does.
    let (mut this, mut sets) = (THIS_PROCESS, [0; 6]);
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, this.as_mut_ptr(), sets.as_mut_ptr()) }, 0);
    sets
}

fn set_capabilities(sets: &[u32; 6]) {
    let mut this = THIS_PROCESS;
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, this.as_mut_ptr(), sets.as_ptr()) }, 0);
}

/// Whether /proc shows us the open files of other users. Docker's root lacks the capability for that.
pub fn sees_others() -> bool {
    capabilities()[0] & CAP_SYS_PTRACE != 0
}

/// From now on it does not show them to this process.
pub fn see_no_others() {
    let mut sets = capabilities();
    sets[..2].iter_mut().for_each(|set| *set &= !CAP_SYS_PTRACE);
    set_capabilities(&sets);
}

/// Runs `work` in a child of root's to which /proc shows no open files of other users.
pub fn without_sys_ptrace(work: impl FnOnce()) {
    let child = fork(|| {
        panic_aloud();
        see_no_others();
        work();
        0
    });
    assert_eq!(child.wait(), End::Exit(0));
}

/// As [`become_user`], but root's process keeps these capabilities.
pub fn become_user_with(user: u32, kept: u32) {
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }, 0);
    become_user([user; 3]);
    set_capabilities(&[kept, kept, 0, 0, 0, 0]);
}

/// Makes a forked child and its children print why they panic. Output that the test harness captures is lost with them.
pub fn panic_aloud() {
    std::panic::set_hook(Box::new(|panic| {
        let line = format!("a child: {panic}\n");
        unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
    }));
}

/// Whether this root may create namespaces, mount in them, and choose PIDs there. It forks, so a test calls it when it is alone.
pub fn may_make_namespaces() -> bool {
    let able = || {
        let made = private_mounts() && unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
        let chosen = || try_fork_numbered(9, || 0).is_some_and(|child| child.wait() == End::Exit(0));
        i32::from(!(made && fork(|| i32::from(!(mount(c"proc", c"/proc", c"") && chosen()))).wait() == End::Exit(0)))
    };
    is_root() && fork(able).wait() == End::Exit(0)
}

/// A new file system of this kind.
pub fn mount(kind: &std::ffi::CStr, target: &std::ffi::CStr, options: &std::ffi::CStr) -> bool {
    let (kind, options) = (kind.as_ptr(), options.as_ptr().cast());
    unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options) == 0 }
}

/// Runs `work` in a child with separate mounts. It succeeds if `work` returns.
pub fn in_private_mounts(work: impl FnOnce()) {
    let child = fork(|| {
        panic_aloud();
        assert!(private_mounts());
        work();
        0
    });
    assert_eq!(child.wait(), End::Exit(0));
}

/// Runs `work` in the first process of a new PID namespace, which still has the /proc of the old one.
pub fn in_pid_namespace(work: impl FnOnce()) {
    let parent = fork(|| {
        panic_aloud();
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
        let first = fork(|| {
            work();
            0
        });
        i32::from(first.wait() != End::Exit(0))
    });
    assert_eq!(parent.wait(), End::Exit(0));
}

/// [`fork`] with this PID for the child: clone3(2). The caller must have one thread, because no handler of fork(2) runs.
pub fn try_fork_numbered(number: i32, work: impl FnOnce() -> i32) -> Option<Child> {
    let mut arguments = [0_u64; 11]; // struct clone_args
    arguments[4] = libc::SIGCHLD.unsigned_abs().into();
    arguments[8] = &raw const number as u64;
    arguments[9] = 1; // numbers, from the innermost namespace outwards
    let size = size_of_val(&arguments);
    match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) } {
        -1 => None,
        0 => {
            let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
            unsafe { libc::_exit(code) }
        }
        pid => Some(Child::of(pid.try_into().unwrap())),
    }
}

static RECEIVED: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);
static ARRIVALS: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

extern "C" fn receive(_: libc::c_int) {
    RECEIVED.fetch_add(1, Relaxed);
    let number = unsafe { libc::getpid() }.to_ne_bytes();
    let arrivals = ARRIVALS.load(Relaxed);
    if arrivals != -1 {
        unsafe { libc::write(arrivals, number.as_ptr().cast(), 4) };
    }
}

/// A child that counts the signals it receives. It does some work first, and keeps what that returns.
pub struct Target {
    pub child: Child,
    end: Pipe,
}

impl Target {
    /// With this user, before it does its work.
    pub fn new<T>(user: u32, work: impl FnOnce() -> T) -> Target {
        Target::start(None, None, user, work)
    }

    /// With this PID, in a process that has one thread.
    pub fn numbered<T>(number: i32, user: u32, work: impl FnOnce() -> T) -> Target {
        Target::start(Some(number), None, user, work)
    }

    /// It sends its PID as soon as a signal arrives.
    pub fn announcing<T>(arrivals: &Pipe, work: impl FnOnce() -> T) -> Target {
        Target::start(None, Some(arrivals), 0, work)
    }

    /// A process without any PID file.
    pub fn stranger() -> Target {
        Target::new(0, || ())
    }

    pub fn holder(path: &str) -> Target {
        Target::new(0, || pidflock::PidLock::acquire(path).unwrap())
    }

    /// The same, and its release keeps the file.
    pub fn lasting_holder(path: &str) -> Target {
        Target::new(0, || pidflock::PidLock::options().remove_on_release(false).acquire(path).unwrap())
    }

    fn start<T>(number: Option<i32>, arrivals: Option<&Pipe>, user: u32, work: impl FnOnce() -> T) -> Target {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let life = || {
            ARRIVALS.store(arrivals.map_or(-1, |pipe| pipe.write), Relaxed);
            for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
                unsafe { libc::signal(signal, receive as *const () as libc::sighandler_t) };
            }
            if user != 0 {
                assert_eq!(unsafe { libc::setgid(user) }, 0);
                assert_eq!(unsafe { libc::setuid(user) }, 0);
            }
            let kept = work();
            ready.send(0);
            Target::until_the_end(&end);
            drop(kept);
            // Signals sent before the request to end have been received by now.
            RECEIVED.load(Relaxed)
        };
        let child = match number {
            Some(number) => try_fork_numbered(number, life).expect("clone3"),
            None => fork(life),
        };
        ready.receive();
        Target { child, end }
    }

    /// As [`Target::holder`] with this user, but its main thread has exited, and another lives. It inherited the lock from this
    /// process, so /proc/locks does not name it.
    pub fn without_main_thread(user: u32, path: &'static str) -> Target {
        let (ready, end) = (Pipe::new(), Pipe::new());
        let locked = lock(path);
        let child = fork(|| {
            unsafe { libc::signal(libc::SIGUSR1, receive as *const () as libc::sighandler_t) };
            if user != 0 {
                become_user([user; 3]);
            }
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    ready.send(0);
                    Target::until_the_end(&end);
                    drop(locked);
                    unsafe { libc::_exit(RECEIVED.load(Relaxed)) }
                });
                unsafe { libc::syscall(libc::SYS_exit, 0) }; // of this thread alone
            });
            PANICKED
        });
        ready.receive();
        let stat = || fs::read_to_string(format!("/proc/{}/stat", child.pid)).unwrap();
        while !stat().contains(") Z ") {
            std::thread::yield_now();
        }
        Target { child, end }
    }

    /// Longer than any test takes.
    fn until_the_end(end: &Pipe) {
        end.receive_within(60_000).expect("nobody has ended it for a minute");
    }

    pub fn number(&self) -> i32 {
        self.child.pid
    }

    /// Ends it, and returns how many signals reached it. Panics if one killed it.
    pub fn received(self) -> i32 {
        self.end.send(0);
        match self.child.wait() {
            End::Exit(count) => count,
            End::Signal(signal) => panic!("killed by signal {signal}"),
        }
    }
}

/// Locks a file without a stamp, and creates it if it is missing. An existing file needs only read permission.
pub fn lock(path: &str) -> fs::File {
    let create = |_| fs::File::options().read(true).write(true).create_new(true).open(path);
    let file = fs::File::open(path).or_else(create).unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    file
}

/// A file of this user, with these permissions, that claims this process.
pub fn plant(path: &str, owner: u32, mode: u32, number: i32) {
    fs::write(path, format!("{number}\n")).unwrap();
    std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// The answer of a filter.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// The call fails with this errno.
    Error(libc::c_int),
    /// The process dies of SIGSYS.
    Kill,
}

/// From now on, for this process and the programs that it becomes, the kernel gives this answer to a call. `lacking` is the
/// number of an argument and some bits: then only if that argument has none of them.
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

/// A lock whose taker died and left it to a child.
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

/// A child that has a lease on a file, as Samba and NFS servers take them. Nobody can open the file until the child gives the
/// lease up. It does so at the test's request or, if `polite`, at the kernel's. None if there are no leases.
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
