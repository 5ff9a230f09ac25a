//! The command's own system calls: its arguments, its streams, one signal, exec.

use core::ffi::{CStr, c_char, c_int};
use pidflock::Errno;

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
    pub(crate) fn exec(self) -> Errno {
        let Some(program) = { self }.next() else { return Errno::InvalidInput };
        // SAFETY: `program` is a string, and the pointers are as `new` has been promised.
        unsafe { libc::execvp(program.as_ptr(), self.0) };
        Errno::last_os_error()
    }
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

/// What a process does on `SIGXFSZ`, the signal for writing beyond `RLIMIT_FSIZE`.
#[derive(Clone, Copy)]
pub(crate) struct OnFileSizeSignal(libc::sighandler_t);

impl OnFileSizeSignal {
    /// Nothing: the write fails with `EFBIG`, and that is all.
    pub(crate) const IGNORE: OnFileSizeSignal = OnFileSizeSignal(libc::SIG_IGN);

    /// Sets this, and returns what was set before: signal(2). That fails, with `SIG_ERR`, only for a number that is no
    /// signal or cannot be caught, and `SIGXFSZ` is neither.
    pub(crate) fn exchange(self) -> OnFileSizeSignal {
        // SAFETY: the handler is SIG_IGN or one that this process had.
        OnFileSizeSignal(unsafe { libc::signal(libc::SIGXFSZ, self.0) })
    }
}
