//! The command's own system calls: its arguments, its streams, signals, exec, and what makes a process a guard.

#[cfg(proc)]
use core::ffi::{c_long, c_void};
use core::{
    ffi::{CStr, c_char, c_int},
    mem::MaybeUninit,
};
#[cfg(proc)]
use pidflock::{AsRawFd, FromRawFd, OwnedFd};
use pidflock::{Errno, RawFd};

/// The arguments of a program as C hands them to `main`.
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

    /// Becomes the program that the first of them names, looked up in `PATH`: execvp(3). Returns only to say why not.
    ///
    /// `set` goes into its environment, and what had these names does not.
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

/// Not setenv(3), which allocates from the heap: the variables are listed in pages of their own.
fn set_environment(names: &[&[u8]], set: &[&CStr]) -> Result<(), Errno> {
    unsafe extern "C" {
        static mut environ: *const *const c_char;
    }
    // SAFETY: there is one thread, and the C library lists the variables in the way that `Arguments` asks for.
    let old = Arguments(unsafe { environ });
    let kept = old.filter(|variable| !names.iter().any(|name| variable.to_bytes().starts_with(name)));
    let room = old.count() + set.len() + 1;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: it asks for new memory, wherever there is room.
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
        // SAFETY: it points to an element or to the null that ends them: below, it moves past an element only.
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

    /// write(2): how many of the bytes went out. Made again if a signal interrupted it.
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

/// What this process does on a signal.
#[derive(Clone, Copy)]
pub(crate) struct Disposition {
    signal: c_int,
    handler: libc::sighandler_t,
}

impl Disposition {
    /// A write beyond `RLIMIT_FSIZE` fails with `EFBIG`, and that is all.
    pub(crate) const IGNORE_FILE_SIZE: Disposition = Disposition { signal: libc::SIGXFSZ, handler: libc::SIG_IGN };

    /// A child that has ended can be waited for. To ignore `SIGCHLD`, as some parents leave it, means that it cannot.
    pub(crate) const KEEP_CHILDREN: Disposition = Disposition { signal: libc::SIGCHLD, handler: libc::SIG_DFL };

    /// Sets this, and returns what was set before: signal(2). That fails, with `SIG_ERR`, only for a number that is no
    /// signal or cannot be caught, and these are neither.
    pub(crate) fn exchange(self) -> Disposition {
        // SAFETY: the handler is SIG_IGN, SIG_DFL or one that this process had.
        let handler = unsafe { libc::signal(self.signal, self.handler) };
        Disposition { handler, ..self }
    }
}

/// Blocks all signals that can be blocked: from now on they change nothing.
pub(crate) fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the pointer is to a set of ours.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the call above has filled the set, and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), core::ptr::null_mut()) };
}

/// Room for all calls of a child, several times over, in bytes.
const STACK: usize = 16 * 1024;

/// Runs `work` in a child, and waits for it: what the child has exited with; none if a signal has ended it.
pub(crate) fn in_child(work: &mut dyn FnMut() -> u8) -> Result<Option<u8>, Errno> {
    // As posix_spawn(3) does: the child shares our memory, and we stand still until it ends. To copy the memory takes longer.
    #[cfg(clone)]
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    #[cfg(not(clone))]
    let flags = 0;
    let child = start_child::<{ 2 * STACK }>(flags, work)?; // in which it may start another
    let mut status = 0;
    // SAFETY: the pointer is to an int of ours.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
        let errno = Errno::last_os_error();
        if errno.as_raw() != libc::EINTR {
            return Err(errno);
        }
    }
    Ok(if libc::WIFEXITED(status) { u8::try_from(libc::WEXITSTATUS(status)).ok() } else { None })
}

/// Runs `work` in a child that has a copy of our memory, and does not wait for it.
pub(crate) fn beside(work: &mut dyn FnMut() -> u8) -> Result<(), Errno> {
    start_child::<STACK>(0, work).map(drop)
}

/// clone(2), which takes less time and room than fork(3). There are no threads, and nothing is to be done at a fork.
#[cfg(clone)]
fn start_child<const SIZE: usize>(flags: c_int, mut work: &mut dyn FnMut() -> u8) -> Result<c_int, Errno> {
    #[repr(align(16))]
    struct Stack<const SIZE: usize> {
        _bytes: [u8; SIZE],
    }

    extern "C" fn call(work: *mut c_void) -> c_int {
        // SAFETY: it points to what `start_child` has borrowed, which is ours alone: a copy, or our parent stands still.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut() -> u8>() };
        work().into()
    }
    let mut stack = MaybeUninit::<Stack<SIZE>>::uninit();
    let top = stack.as_mut_ptr().wrapping_add(1).cast();
    // SAFETY: `top` is the end of a stack that nobody else uses, and it outlives the child that shares our memory, if one
    // does. Nothing is left half done there: the child does not unwind.
    let child = unsafe { libc::clone(call, top, flags | libc::SIGCHLD, (&raw mut work).cast()) };
    if child == -1 { Err(Errno::last_os_error()) } else { Ok(child) }
}

#[cfg(not(clone))]
fn start_child<const SIZE: usize>(_: c_int, work: &mut dyn FnMut() -> u8) -> Result<c_int, Errno> {
    // SAFETY: this process has one thread, so that the child finds nothing half done.
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

/// chdir(2) to `/`, so that no other file system is kept from being unmounted. Everybody can, but for odd roots.
pub(crate) fn leave_directory() {
    // SAFETY: the path ends in a NUL.
    unsafe { libc::chdir(c"/".as_ptr()) };
}

/// The name that /proc, ps(1) and pgrep(1) show of this process: PR_SET_NAME(2const). At most 15 bytes.
pub(crate) fn set_name(name: &CStr) {
    #[cfg(proc)]
    // SAFETY: the kernel reads up to the NUL.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    #[cfg(not(proc))]
    let _ = name;
}

/// Closes what this program was started with, and keeps what it has opened itself, of which the highest is `highest`.
///
/// The two can be told apart: what has come through exec is not close-on-exec, and all that is opened here is.
pub(crate) fn close_inherited(highest: RawFd) {
    for fd in 0..=close_above(highest) {
        // SAFETY: it takes two ints.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: nobody owns it, since nothing in this program has opened it.
            unsafe { libc::close(fd) };
        }
    }
}

/// Closes all above this one, if the kernel can do that in one call: Linux 5.9. Returns the highest that may be open.
fn close_above(highest: RawFd) -> RawFd {
    #[cfg(pidfd)]
    {
        let (first, last) = (c_long::from(highest) + 1, c_long::from(c_int::MAX));
        // SAFETY: it takes numbers, and nothing in this program has opened a descriptor above `highest`.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, c_long::from(0)) } == 0 {
            return highest;
        }
    }
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: the pointer is to a struct of ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) };
    // SAFETY: it is integers, for which zeros are good, and the kernel has written over them.
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

/// A process whose end somebody waits for.
pub(crate) struct Watched {
    pid: c_int,
    /// Stays with the process when its number is given to another. None where the kernel has no pidfds: Linux 5.3.
    #[cfg(pidfd)]
    pidfd: Option<OwnedFd>,
    /// Its directory in /proc, which stays with it, too. None where it is not needed, or not there.
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

    /// The highest descriptor that this has opened; -1 if there is none.
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

    /// Whether it has ended. By number alone, one that nobody has waited for yet has not.
    fn sleep_and_look(&self) -> bool {
        #[cfg(pidfd)]
        if let Some(pidfd) = &self.pidfd {
            let mut entry = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, no limit of time, and no signal mask.
            if unsafe { libc::ppoll(&raw mut entry, 1, core::ptr::null(), core::ptr::null()) } == 1 {
                return true;
            }
        }
        // SAFETY: a timespec is integers, for which zeros are good.
        let mut pause: libc::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
        pause.tv_nsec = 100_000_000;
        // SAFETY: `pause` is valid, and the remaining time is not asked for.
        unsafe { libc::nanosleep(&raw const pause, core::ptr::null_mut()) };
        #[cfg(proc)]
        if let Some(directory) = &self.directory {
            let error = |name: &CStr| {
                // SAFETY: the name ends in a NUL.
                let found = unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::F_OK, 0) };
                (found == -1).then(Errno::last_os_error)
            };
            return match error(c"stat") {
                // One that nobody has waited for yet has no program any more.
                None => error(c"exe") == Some(Errno::NotFound),
                // One that is hidden from us gives another error.
                Some(errno) => errno == Errno::NoProcess,
            };
        }
        // SAFETY: it takes two ints, and signal 0 only asks.
        let found = unsafe { libc::kill(self.pid, 0) };
        found == -1 && Errno::last_os_error() == Errno::NoProcess
    }
}

/// The directory of this process in /proc, under whatever number it has there.
#[cfg(proc)]
fn open_own_directory() -> Option<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path ends in a NUL.
    owned(unsafe { libc::openat(libc::AT_FDCWD, c"/proc/self".as_ptr(), flags) }.into())
}

/// The descriptor that a call has just opened, if it has.
#[cfg(proc)]
fn owned(returned: c_long) -> Option<OwnedFd> {
    let fd = c_int::try_from(returned).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: it is open, and ours, since each caller passes on what the kernel has opened for it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
