//! A process that stops at every system call, by ptrace(2).
//!
//! `PTRACE_GET_SYSCALL_INFO` reads calls on any architecture (Linux 5.3), and `PTRACE_SET_SYSCALL_INFO` changes them
//! (Linux 6.16). A stop takes longer than most calls. So a process of a [`Forker`] stops only at the calls that a
//! seccomp(2) filter selects.

use crate::support::{Child, End, PANICKED, skip};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// `struct ptrace_syscall_info` of linux/ptrace.h, with the longest member of the union, as words.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    op: u8,
    reserved: u8,
    flags: u16,
    arch: u32,
    instruction: u64,
    stack: u64,
    words: [u64; 8],
}

const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const SET_SYSCALL_INFO: libc::c_uint = 0x4212;
const OP_ENTRY: u8 = 1;
const OP_EXIT: u8 = 2;
const OP_SECCOMP: u8 = 3;

/// A system call that a process is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Syscall {
    pub number: i64,
    pub arguments: [u64; 6],
}

impl Syscall {
    /// An argument that is an int.
    pub fn int(&self, index: usize) -> i32 {
        self.arguments[index] as i32
    }
}

/// The place where a traced process stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Before this call.
    Entry(Syscall),
    /// After the call, with its return value: -errno for an error.
    Exit(i64),
    /// A signal is about to be delivered.
    Signal(i32),
    /// It forked this child, which is traced as well. After a vfork, it goes on only once the child has ended.
    Forked(i32),
    /// It has become another program.
    Executed,
    Ended(End),
}

/// A traced process. Killed on drop.
pub struct Traced {
    pub pid: i32,
    /// The signal to deliver when it goes on.
    signal: i32,
    ended: bool,
}

/// An operation of prctl(2) that no kernel has. The traced code marks its progress with it.
pub const MARK: i32 = 0x7069_6466;

pub fn mark(code: i32) {
    unsafe { libc::prctl(MARK, code, 0, 0, 0) };
}

impl Traced {
    /// Forks a child that stops before `work`.
    pub fn spawn(work: impl FnOnce() -> i32) -> io::Result<Traced> {
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                if unsafe { libc::ptrace(libc::PTRACE_TRACEME) } == -1 {
                    unsafe { libc::_exit(PANICKED) }
                }
                unsafe { libc::raise(libc::SIGSTOP) };
                let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
                unsafe { libc::_exit(code) }
            }
            pid => pid,
        };
        let mut traced = Traced { pid, signal: 0, ended: false };
        match traced.wait() {
            Stop::Signal(libc::SIGSTOP) => {}
            stop => return Err(io::Error::other(format!("ptrace is not allowed: {stop:?}"))),
        }
        traced.signal = 0;
        traced.set_options()?;
        Ok(traced)
    }

    /// A child that a traced process has just forked.
    pub fn forked(pid: i32) -> Traced {
        let mut traced = Traced { pid, signal: 0, ended: false };
        assert_eq!(traced.wait(), Stop::Signal(libc::SIGSTOP));
        traced.signal = 0;
        traced
    }

    fn set_options(&self) -> io::Result<()> {
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_TRACESECCOMP;
        let none = std::ptr::null_mut::<libc::c_void>();
        match unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, self.pid, none, i64::from(options)) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Resumes it, and returns at its next stop.
    pub fn go_on(&mut self) -> Stop {
        self.resume(libc::PTRACE_SYSCALL)
    }

    /// The same, but it stops only before the calls that its `Forker` selects, and after none.
    pub fn go_on_to_a_call(&mut self) -> Stop {
        self.resume(libc::PTRACE_CONT)
    }

    fn resume(&mut self, request: libc::c_uint) -> Stop {
        self.let_go(request);
        self.wait()
    }

    fn let_go(&mut self, request: libc::c_uint) {
        let none = std::ptr::null_mut::<libc::c_void>();
        let signal = i64::from(std::mem::take(&mut self.signal));
        let gone = unsafe { libc::ptrace(request, self.pid, none, signal) } == -1;
        // If the process was killed while it was stopped, its only next stop is its end.
        assert!(!gone || io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH));
    }

    /// Resumes it, and does not wait for its next stop, which needs another process. `wait` returns that stop.
    pub fn set_off(&mut self) {
        self.let_go(libc::PTRACE_SYSCALL);
    }

    pub fn wait(&mut self) -> Stop {
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) }, self.pid);
        if !libc::WIFSTOPPED(status) {
            self.ended = true;
            let exited = libc::WIFEXITED(status);
            return Stop::Ended(if exited {
                End::Exit(libc::WEXITSTATUS(status))
            } else {
                End::Signal(libc::WTERMSIG(status))
            });
        }
        let event = |event| status >> 8 == libc::SIGTRAP | (event << 8);
        if event(libc::PTRACE_EVENT_EXEC) {
            return Stop::Executed;
        }
        if event(libc::PTRACE_EVENT_FORK) || event(libc::PTRACE_EVENT_VFORK) {
            let mut child: libc::c_ulong = 0;
            let none = std::ptr::null_mut::<libc::c_void>();
            unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, self.pid, none, &raw mut child) };
            return Stop::Forked(child as i32);
        }
        let at_a_call = status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_SECCOMP << 8);
        if !at_a_call && libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
            self.signal = libc::WSTOPSIG(status);
            return Stop::Signal(self.signal);
        }
        let info = self.info();
        match info.op {
            OP_ENTRY | OP_SECCOMP => {
                let [number, arguments @ .., _] = info.words;
                Stop::Entry(Syscall { number: number as i64, arguments })
            }
            OP_EXIT => Stop::Exit(info.words[0] as i64),
            op => panic!("a stop of kind {op}"),
        }
    }

    fn info(&self) -> Info {
        let mut info = Info::default();
        let size = size_of::<Info>();
        let read = unsafe { libc::ptrace(GET_SYSCALL_INFO, self.pid, size, &raw mut info) };
        assert!(read > 0, "PTRACE_GET_SYSCALL_INFO: {}", io::Error::last_os_error());
        info
    }

    fn set_info(&self, info: &Info) {
        let size = size_of::<Info>();
        let set = unsafe { libc::ptrace(SET_SYSCALL_INFO, self.pid, size, std::ptr::from_ref(info)) };
        assert_eq!(set, 0, "PTRACE_SET_SYSCALL_INFO: {}", io::Error::last_os_error());
    }

    /// At an entry: skips the call, which returns this (-errno for an error). Leaves the process at the exit.
    pub fn replace(&mut self, result: i64) {
        let mut info = self.info();
        assert!(matches!(info.op, OP_ENTRY | OP_SECCOMP));
        info.words[0] = u64::MAX; // no such call
        self.set_info(&info);
        assert!(matches!(self.go_on(), Stop::Exit(_)));
        self.answer(result);
    }

    /// At an exit: the call was made, but returns this.
    pub fn answer(&mut self, result: i64) {
        let mut info = self.info();
        assert_eq!(info.op, OP_EXIT);
        info.words[0] = result as u64;
        info.words[1] = u64::from(result < 0);
        self.set_info(&info);
    }

    /// At an entry: makes the call. Leaves the process at the exit.
    pub fn make(&mut self) -> Stop {
        loop {
            match self.go_on() {
                Stop::Signal(_) => {}
                stop => return stop,
            }
        }
    }

    /// Kills the process at its stop.
    pub fn kill(mut self) {
        self.die();
    }

    /// The same. Returns how it ended.
    pub fn die(&mut self) -> End {
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        loop {
            if let Stop::Ended(end) = self.go_on() {
                return end;
            }
        }
    }

    /// Stops tracing: the process runs on as an ordinary child.
    pub fn detach(mut self) -> Child {
        let none = std::ptr::null_mut::<libc::c_void>();
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, none, 0_i64) };
        self.ended = true;
        Child::of(self.pid)
    }
}

/// From now on, this process and its children stop only before these calls, with `Traced::go_on_to_a_call`.
fn stand_still_at(calls: &[i64]) {
    let line = |code: u32, if_equal, k| libc::sock_filter { code: code as u16, jt: if_equal, jf: 0, k };
    let answer = |answer| line(libc::BPF_RET | libc::BPF_K, 0, answer);
    let mut lines = vec![line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)]; // the number: the first word of seccomp_data
    for (index, call) in calls.iter().enumerate() {
        let past_the_others = (calls.len() - index) as u8; // and the line that allows
        lines.push(line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, past_the_others, *call as u32));
    }
    lines.extend([answer(libc::SECCOMP_RET_ALLOW), answer(libc::SECCOMP_RET_TRACE)]);
    let filter = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) }, 0);
}

/// Forks the processes of all runs. It creates once what each of them needs, mainly the filter.
pub struct Forker(Traced);

impl Forker {
    /// The processes do this work, in turn, and stop before these calls.
    pub fn new(calls: &[i64], works: &[&dyn Fn() -> i32]) -> io::Result<Forker> {
        let fork_in_turn = || {
            // Only the tracer waits for them and their children.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
            stand_still_at(calls);
            for work in works.iter().cycle() {
                if unsafe { libc::fork() } == 0 {
                    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
                    // The end of a child must not interrupt a call, or only some runs would make it again.
                    let mut ends: libc::sigset_t = unsafe { std::mem::zeroed() };
                    unsafe { libc::sigaddset(&raw mut ends, libc::SIGCHLD) };
                    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const ends, std::ptr::null_mut()) };
                    return work();
                }
            }
            0
        };
        Traced::spawn(fork_in_turn).map(Forker)
    }

    /// Forks the process of the next work, and stops it before the work.
    pub fn fork(&mut self) -> Traced {
        loop {
            if let Stop::Forked(pid) = self.0.go_on_to_a_call() {
                return Traced::forked(pid);
            }
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.ended {
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            let mut status = 0;
            unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            while libc::WIFSTOPPED(status) {
                unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            }
        }
    }
}

/// Pins this thread and all that it forks to the current processor. Tracer and traced take turns, and a wake-up across
/// processors takes longer than the calls.
pub fn stay_on_one_processor() {
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let here = unsafe { libc::sched_getcpu() } as usize;
    unsafe { libc::CPU_SET(here, &mut one) };
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one) };
}

/// Why tracing is impossible here, if it is.
pub fn impossible() -> Option<String> {
    let work = || {
        mark(1);
        if unsafe { libc::getppid() } == 4242 { 42 } else { 0 }
    };
    let mut traced = match Traced::spawn(work) {
        Ok(traced) => traced,
        Err(error) => return Some(error.to_string()),
    };
    loop {
        match traced.go_on() {
            Stop::Entry(call) if call.number == libc::SYS_getppid => {
                let info = traced.info();
                let size = size_of::<Info>();
                if unsafe { libc::ptrace(SET_SYSCALL_INFO, traced.pid, size, &raw const info) } == -1 {
                    return Some("PTRACE_SET_SYSCALL_INFO needs Linux 6.16".into());
                }
                traced.replace(4242);
            }
            Stop::Ended(End::Exit(42)) => return None,
            Stop::Ended(end) => return Some(format!("a traced process ended with {end:?}")),
            _ => {}
        }
    }
}

/// The mark at which [`follow`] begins.
pub const BEGIN: i32 = 30;

/// Runs the work in a traced child, and calls `at` at every stop after `mark(BEGIN)`. False if tracing is impossible.
pub fn follow(work: impl FnOnce(), mut at: impl FnMut(&mut Traced, Stop)) -> bool {
    if let Some(reason) = impossible() {
        skip(&reason);
        return false;
    }
    let mut traced = Traced::spawn(|| (work(), 0).1).unwrap();
    let mut begun = false;
    loop {
        match traced.go_on() {
            Stop::Ended(end) => {
                assert_eq!(end, End::Exit(0), "the child found something wrong, see above");
                return true;
            }
            stop if begun => at(&mut traced, stop),
            Stop::Entry(call) => begun = call.number == libc::SYS_prctl && call.int(0) == MARK,
            _ => {}
        }
    }
}
