//! libbsd: pidfile(3) and flopen(3).

use std::ffi::{CStr, c_char, c_int};

#[repr(C)]
struct Handle([u8; 0]);

#[link(name = "bsd")]
unsafe extern "C" {
    fn pidfile_open(path: *const c_char, mode: libc::mode_t, holder: *mut libc::pid_t) -> *mut Handle;
    fn pidfile_write(handle: *mut Handle) -> c_int;
    fn pidfile_fileno(handle: *const Handle) -> c_int;
    fn pidfile_remove(handle: *mut Handle) -> c_int;
    fn flopen(path: *const c_char, flags: c_int, ...) -> c_int;
}

/// Acquire, stamp, release. libbsd never flushes, so this flushes for it.
pub fn cycle(path: &CStr, sync: bool) {
    let mut holder = 0;
    let handle = unsafe { pidfile_open(path.as_ptr(), 0o644, &raw mut holder) };
    assert!(!handle.is_null());
    assert_eq!(unsafe { pidfile_write(handle) }, 0);
    if sync {
        assert_eq!(unsafe { libc::fsync(pidfile_fileno(handle)) }, 0);
    }
    assert_eq!(unsafe { pidfile_remove(handle) }, 0);
}

/// The holder's PID.
pub fn refusal(path: &CStr) -> i32 {
    let mut holder = 0;
    assert!(unsafe { pidfile_open(path.as_ptr(), 0o644, &raw mut holder) }.is_null());
    holder
}

/// Waits for the name with flopen(3), which opens the file again if it locked a removed one. Returns the descriptor.
pub fn wait(path: &CStr) -> c_int {
    let fd = unsafe { flopen(path.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC, 0o644 as c_int) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    fd
}
