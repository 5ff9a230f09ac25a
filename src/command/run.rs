//! `pidflock run`: lock, stamp, start a guard, exec.

use super::{
    guard,
    report::{Ended, announce, call_failed, exit, failed},
    sys::Disposition,
    words::{Holders, Words},
};
use core::{ffi::CStr, time::Duration};
use pidflock::{AsRawFd, Errno, Error, Options, PidLock, Wait};

/// How long to wait for a holder that the file does not name, in case it is the guard of a COMMAND that just ended. A
/// guard takes microseconds, unless the machine is overloaded.
const GUARD_WAIT: Wait = Wait::For(Duration::from_secs(1));

/// The variables that give COMMAND the number of the locked descriptor, and the process that it is meant for.
const FD: &[u8] = b"PIDFLOCK_FD=";
const PID: &[u8] = b"PIDFLOCK_PID=";

/// Becomes COMMAND, which keeps the PID. COMMAND inherits the locked descriptor unless `-o` is given, and no other
/// descriptor that `run` opened. Returns only if exec fails.
pub(crate) fn run(mut words: Words) -> Ended<u8> {
    let chosen = words.options(b"wt:oxE:m:")?;
    let pidfile = words.pidfile()?;
    let (command, arguments) = words.command()?;
    let mut options = PidLock::options();
    if let Some(mode) = chosen.mode {
        options = options.mode(mode);
    }
    let wait = chosen.wait.unwrap_or(Wait::Never);

    // A stamp beyond the file-size limit must fail, not kill us. COMMAND gets the disposition that `run` was started
    // with.
    let on_file_size = Disposition::IGNORE_FILE_SIZE.exchange();
    let fail = |error| match (error, failed(pidfile, error)) {
        (Error::AlreadyLocked { .. }, code) => chosen.held.unwrap_or(code),
        (_, code) => code,
    };
    if wait != Wait::Never {
        announce(pidfile).map_err(fail)?;
    }
    let mut lock = acquire(options, wait, pidfile).map_err(fail)?;
    if chosen.holders != Holders::Command {
        lock = guard::leave_behind(lock).map_err(|errno| {
            call_failed(pidfile, "fork", errno);
            exit::SYSTEM
        })?;
    }
    on_file_size.exchange();

    let fd = Variable::new(FD, lock.as_raw_fd().unsigned_abs());
    let pid = Variable::new(PID, lock.pid().as_u32());
    let errno;
    // Safe without `IGNORE_FILE_SIZE`: it writes no more than before, within the limit.
    let _the_first_error_counts = if chosen.holders == Holders::Guard {
        errno = arguments.exec(&[FD, PID], &[]);
        lock.release()
    } else {
        let locked = lock.hand_over().map_err(fail)?;
        errno = arguments.exec(&[FD, PID], &[fd.get(), pid.get()]);
        PidLock::adopt(locked, pidfile).and_then(PidLock::release)
    };
    call_failed(command, "exec", errno);
    Err(if errno == Errno::NotFound { exit::NO_COMMAND } else { exit::CANNOT_EXECUTE })
}

/// Acquires the name. Waits `GUARD_WAIT` for a holder that the file does not name.
fn acquire(options: Options, wait: Wait, pidfile: &CStr) -> Result<PidLock, Error> {
    match options.wait(wait).acquire(pidfile) {
        Err(Error::AlreadyLocked { holder: None }) if wait == Wait::Never => options.wait(GUARD_WAIT).acquire(pidfile),
        result => result,
    }
}

/// An environment variable: a name and a number. The rest of the buffer is NUL.
struct Variable {
    bytes: [u8; 32],
    length: usize,
}

impl Variable {
    fn new(name: &[u8], number: u32) -> Variable {
        let mut variable = Variable { bytes: [0; 32], length: 0 };
        name.iter().for_each(|byte| variable.push(*byte));
        variable.number(number);
        variable
    }

    fn number(&mut self, number: u32) {
        if number > 9 {
            self.number(number / 10);
        }
        self.push(b'0' + (number % 10) as u8);
    }

    fn push(&mut self, byte: u8) {
        if let Some(to) = self.bytes.get_mut(self.length) {
            *to = byte;
            self.length += 1;
        }
    }

    fn get(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}
