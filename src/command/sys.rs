//! The command's system calls: arguments, streams, signals, exec, and what makes a process a guard.

#[cfg(proc)]
use core::ffi::{c_long, c_void};
use core::{
    ffi::{CStr, c_char, c_int},
    mem::MaybeUninit,
};
#[cfg(proc)]
use pidflock::{AsRawFd, FromRawFd, OwnedFd};
use pidflock::{Errno, RawFd};

/// The arguments of a program as C passes them to `main`.
#[derive(Clone, Copy)]
pub(crate) struct Arguments(*const *const c_char);

impl Arguments {
    /// The arguments from here on.
    ///
    /// # Safety
    /// `argv` points to pointers to strings, ended by a null pointer, that live as long as the program.
    pub(crate) const unsafe fn new(argv: *const *const c_char) -> Arguments {
        Arguments(argv)
    }

    /// Becomes the program that the first argument names, looked up in `PATH`: execvp(3). Returns only on failure.
    ///
    /// Adds `set` to the environment, without the old variables called `names`.
    pub(crate) fn exec(self, names: &[&[u8]], set: &[&CStr]) -> Errno {
        let Some(program) = { self }.next() else { return Errno::InvalidInput };
        if let Err(errno) = set_environment(names, set) {
            return errno;
        }
        // SAFETY: `program` is a string, and the pointers are as `new` has been promised.
        unsafe { libc::execvp(program.as_ptr(), self.0) };
        Errno::last_os_error()
    }
}

/// Replaces setenv(3), which allocates from the heap: this lists the variables in separate pages.
fn set_environment(names: &[&[u8]], set: &[&CStr]) -> Result<(), Errno> {
    unsafe extern "C" {
        static mut environ: *const *const c_char;
    }
    // SAFETY: there is one thread, and the C library lists the variables in the way that `Arguments` asks for.
    let old = Arguments(unsafe { environ });
    let kept = old.filter(|variable| !names.iter().any(|name| variable.to_bytes().starts_with(name)));
    let room = old.count() + set.len() + 1;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: the call asks for new memory at any address.
    let start = unsafe { libc::mmap(core::ptr::null_mut(), room * size_of::<*const c_char>(), access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(Errno::last_os_error());
    }
    // SAFETY: the memory is that long, aligned to a page, ours alone, and holds null pointers, of which the last stays.
    let list = unsafe { core::slice::from_raw_parts_mut(start.cast::<*const c_char>(), room) };
    let variables = set.iter().map(|variable| variable.as_ptr()).chain(kept.map(CStr::as_ptr));
    for (entry, variable) in list.iter_mut().zip(variables) {
        *entry = variable;
    }
    // SAFETY: there is one thread.
    unsafe { environ = list.as_ptr() };
    Ok(())
}

impl Iterator for Arguments {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: the pointer is to an element or to the final null: below, it moves only past an element.
        let argument = unsafe { *self.0 };
        if argument.is_null() {
            return None;
        }
        self.0 = self.0.wrapping_add(1);
        // SAFETY: `new` has been promised strings that live as long as the program.
        Some(unsafe { CStr::from_ptr(argument) })
    }
}

/// A standard stream that a program prints to.
#[derive(Clone, Copy)]
pub(crate) struct Stream(c_int);

impl Stream {
    pub(crate) const OUT: Stream = Stream(libc::STDOUT_FILENO);
    pub(crate) const ERR: Stream = Stream(libc::STDERR_FILENO);

    /// write(2): how many bytes were written. Repeated if a signal interrupts it.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            // SAFETY: start and length are those of `bytes`.
            let written = unsafe { libc::write(self.0, bytes.as_ptr().cast(), bytes.len()) };
            if let Ok(written) = usize::try_from(written) {
                return Ok(written);
            }
            let errno = Errno::last_os_error();
            if errno.as_raw() != libc::EINTR {
                return Err(errno);
            }
        }
    }

    /// Whether it is a terminal: isatty(3).
    pub(crate) fn is_terminal(self) -> bool {
        // SAFETY: it takes an int.
        unsafe { libc::isatty(self.0) == 1 }
    }
}

/// What a signal does to this process.
#[derive(Clone, Copy)]
pub(crate) struct Disposition {
    signal: c_int,
    handler: libc::sighandler_t,
}

impl Disposition {
    /// A write beyond `RLIMIT_FSIZE` fails with `EFBIG`, and that is all.
    pub(crate) const IGNORE_FILE_SIZE: Disposition = Disposition { signal: libc::SIGXFSZ, handler: libc::SIG_IGN };

    /// We can wait for a child that has ended. We cannot if `SIGCHLD` is ignored, as some parents leave it.
    pub(crate) const KEEP_CHILDREN: Disposition = Disposition { signal: libc::SIGCHLD, handler: libc::SIG_DFL };

    /// Sets this, and returns what was set before: signal(2). It fails, with `SIG_ERR`, only for a number that is no
    /// signal or cannot be caught. These are neither.
    pub(crate) fn exchange(self) -> Disposition {
        // SAFETY: the handler is SIG_IGN, SIG_DFL or one that this process had.
        let handler = unsafe { libc::signal(self.signal, self.handler) };
        Disposition { handler, ..self }
    }
}

/// Blocks all signals that can be blocked.
pub(crate) fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the pointer is to our own set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the call above has filled the set, and the null pointer asks for no old set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), core::ptr::null_mut()) };
}

/// Several times the stack that a child needs, in bytes.
const STACK: usize = 16 * 1024;

/// Runs `work` in a child, and waits for it. Returns the child's exit code, or none if a signal ended it.
pub(crate) fn in_child(work: &mut dyn FnMut() -> u8) -> Result<Option<u8>, Errno> {
    // As posix_spawn(3) does: the child shares our memory, and we are suspended until it ends. Copying the memory takes
    // longer.
    #[cfg(clone)]
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    #[cfg(not(clone))]
    let flags = 0;
    let child = start_child::<{ 2 * STACK }>(flags, work)?; // room to start another child in it
    let mut status = 0;
    // SAFETY: the pointer is to our own int.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
        let errno = Errno::last_os_error();
        if errno.as_raw() != libc::EINTR {
            return Err(errno);
        }
    }
    Ok(if libc::WIFEXITED(status) { u8::try_from(libc::WEXITSTATUS(status)).ok() } else { None })
}

/// Runs `work` in a child that has a copy of our memory. Does not wait for it.
pub(crate) fn beside(work: &mut dyn FnMut() -> u8) -> Result<(), Errno> {
    start_child::<STACK>(0, work).map(drop)
}

/// clone(2), which takes less time and memory than fork(3). Raw clone(2) is sound here: there are no threads, and no
/// fork handlers to run.
#[cfg(clone)]
fn start_child<const SIZE: usize>(flags: c_int, mut work: &mut dyn FnMut() -> u8) -> Result<c_int, Errno> {
    #[repr(align(16))]
    struct Stack<const SIZE: usize> {
        _bytes: [u8; SIZE],
    }

    extern "C" fn call(work: *mut c_void) -> c_int {
        // SAFETY: the pointer is to what `start_child` borrowed. It is ours alone: a copy, or our parent is suspended.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut() -> u8>() };
        work().into()
    }
    let mut stack = MaybeUninit::<Stack<SIZE>>::uninit();
    let top = stack.as_mut_ptr().wrapping_add(1).cast();
    // SAFETY: `top` is the end of a stack that no other code uses. It outlives a child that shares our memory. The
    // child does not unwind, so it leaves nothing half done there.
    let child = unsafe { libc::clone(call, top, flags | libc::SIGCHLD, (&raw mut work).cast()) };
    if child == -1 { Err(Errno::last_os_error()) } else { Ok(child) }
}

#[cfg(not(clone))]
fn start_child<const SIZE: usize>(_: c_int, work: &mut dyn FnMut() -> u8) -> Result<c_int, Errno> {
    // SAFETY: this process has one thread, so the child finds nothing half done.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last_os_error()),
        0 => {
            let code = work().into();
            // SAFETY: it takes an int.
            unsafe { libc::_exit(code) }
        }
        child => Ok(child),
    }
}

/// setsid(2). It fails only for the leader of a process group, which a child that was just forked is not.
pub(crate) fn leave_session() {
    // SAFETY: it takes nothing.
    unsafe { libc::setsid() };
}

/// chdir(2) to `/`, so that other file systems can be unmounted. Every process can do that, except under unusual roots.
pub(crate) fn leave_directory() {
    // SAFETY: the path ends in a NUL.
    unsafe { libc::chdir(c"/".as_ptr()) };
}

/// Sets the name that /proc, ps(1) and pgrep(1) show: PR_SET_NAME(2const). At most 15 bytes.
pub(crate) fn set_name(name: &CStr) {
    #[cfg(proc)]
    // SAFETY: the kernel reads up to the NUL.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    #[cfg(not(proc))]
    let _ = name;
}

/// Closes the descriptors that this program inherited. Keeps those that it opened itself, of which the highest is
/// `highest`.
///
/// Close-on-exec distinguishes them: an inherited descriptor does not have it, and every one opened here does.
pub(crate) fn close_inherited(highest: RawFd) {
    for fd in 0..=close_above(highest) {
        // SAFETY: it takes two ints.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: no value owns it, since this program did not open it.
            unsafe { libc::close(fd) };
        }
    }
}

/// Closes all descriptors above this one, if the kernel can do that in one call: Linux 5.9. Returns the highest one
/// that may be open.
fn close_above(highest: RawFd) -> RawFd {
    #[cfg(pidfd)]
    {
        let (first, last) = (c_long::from(highest) + 1, c_long::from(c_int::MAX));
        // SAFETY: it takes numbers, and this program opened no descriptor above `highest`.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, c_long::from(0)) } == 0 {
            return highest;
        }
    }
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: the pointer is to our own struct.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) };
    // SAFETY: the struct is integers, for which zeros are valid, and the kernel has filled them in.
    let limit = unsafe { limit.assume_init() };
    limit.rlim_cur.try_into().unwrap_or(highest).max(highest)
}

/// Opens /dev/null as the standard streams, which must be closed.
pub(crate) fn open_null() {
    // SAFETY: the path ends in a NUL.
    let null = unsafe { libc::openat(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR) };
    for _ in 1..3 {
        // SAFETY: it takes ints.
        unsafe { libc::fcntl(null, libc::F_DUPFD, 0) };
    }
}

/// A process whose end another process waits for.
pub(crate) struct Watched {
    pid: c_int,
    /// Never refers to another process, even if the PID is reused. None if the kernel has no pidfds: before Linux 5.3.
    #[cfg(pidfd)]
    pidfd: Option<OwnedFd>,
    /// Its directory in /proc, which never refers to another process either. None if it is not needed or does not
    /// exist.
    #[cfg(proc)]
    directory: Option<OwnedFd>,
}

impl Watched {
    /// This process, to be watched by a child.
    pub(crate) fn this_process() -> Watched {
        // SAFETY: it takes nothing and cannot fail.
        let pid = unsafe { libc::getpid() };
        #[cfg(pidfd)]
        // SAFETY: the call takes two numbers.
        let pidfd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, c_long::from(pid), c_long::from(0)) });
        #[cfg(pidfd)]
        let needed = pidfd.is_none();
        #[cfg(all(proc, not(pidfd)))]
        let needed = true;
        #[cfg(proc)]
        let directory = if needed { open_own_directory() } else { None };
        Watched {
            pid,
            #[cfg(pidfd)]
            pidfd,
            #[cfg(proc)]
            directory,
        }
    }

    /// The highest descriptor that this opened. -1 if there is none.
    pub(crate) fn highest(&self) -> RawFd {
        let highest = -1;
        #[cfg(proc)]
        let highest = self.directory.as_ref().map_or(highest, AsRawFd::as_raw_fd);
        #[cfg(pidfd)]
        let highest = self.pidfd.as_ref().map_or(highest, AsRawFd::as_raw_fd);
        highest
    }

    /// Sleeps until it has ended.
    pub(crate) fn wait(&self) {
        while !self.sleep_and_look() {}
    }

    /// Whether it has ended. By number alone, a zombie has not.
    fn sleep_and_look(&self) -> bool {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            let mut entry = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, no time limit, and no signal mask.
            if unsafe { libc::ppoll(&raw mut entry, 1, core::ptr::null(), core::ptr::null()) } == 1 {
                return true;
            }
        }
        // SAFETY: a timespec is integers, for which zeros are valid.
        let mut pause: libc::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
        pause.tv_nsec = 100_000_000;
        // SAFETY: `pause` is valid, and the null pointer asks for no remaining time.
        unsafe { libc::nanosleep(&raw const pause, core::ptr::null_mut()) };
        #[cfg(proc)]
        if let Some(directory) = &self.directory {
            let error = |name: &CStr| {
                // SAFETY: the name ends in a NUL.
                let found = unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::F_OK, 0) };
                (found == -1).then(Errno::last_os_error)
            };
            return match error(c"stat") {
                // A zombie has no program any more.
                None => error(c"exe") == Some(Errno::NotFound),
                // A hidden process gives another error.
                Some(errno) => errno == Errno::NoProcess,
            };
        }
        // SAFETY: it takes two ints, and signal 0 only checks.
        let found = unsafe { libc::kill(self.pid, 0) };
        found == -1 && Errno::last_os_error() == Errno::NoProcess
    }
}

/// The directory of this process in /proc, under any number that it has there.
#[cfg(proc)]
fn open_own_directory() -> Option<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path ends in a NUL.
    owned(unsafe { libc::openat(libc::AT_FDCWD, c"/proc/self".as_ptr(), flags) }.into())
}

/// The descriptor that a call returned, if it returned one.
#[cfg(proc)]
fn owned(returned: c_long) -> Option<OwnedFd> {
    let fd = c_int::try_from(returned).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: it is open and ours, since each caller passes a descriptor that the kernel just opened for it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
