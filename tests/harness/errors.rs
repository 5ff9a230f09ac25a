//! The errors of each call.

/// What its manual page lets each call fail with; and EINTR for all that may be interrupted somewhere, ENOSYS and EPERM
/// where seccomp filters are known to say so.
#[rustfmt::skip]
#[allow(non_upper_case_globals, reason = "the names are those of libc")]
pub fn errors_of(call: i64) -> (&'static str, &'static [i32]) {
    use libc::*;
    match call {
        SYS_openat => ("openat", &[EACCES, EBADF, EBUSY, EDQUOT, EEXIST, EFAULT, EFBIG, EINTR, EINVAL, EISDIR, ELOOP, EMFILE,
            ENAMETOOLONG, ENFILE, ENODEV, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, EOVERFLOW, EPERM, EROFS, ETXTBSY,
            EWOULDBLOCK]),
        SYS_flock => ("flock", &[EBADF, EINTR, EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP, EWOULDBLOCK]),
        SYS_newfstatat | SYS_fstat => ("fstat", &[EACCES, EBADF, EFAULT, EINTR, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM,
            ENOTDIR, EOVERFLOW]),
        SYS_pread64 => ("pread", &[EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, EISDIR, ENXIO, EOVERFLOW, ESPIPE]),
        SYS_pwrite64 => ("pwrite", &[EAGAIN, EBADF, EDESTADDRREQ, EDQUOT, EFAULT, EFBIG, EINTR, EINVAL, EIO, ENOSPC, ENXIO,
            EOVERFLOW, EPERM, EPIPE, ESPIPE]),
        SYS_ftruncate => ("ftruncate", &[EBADF, EFBIG, EINTR, EINVAL, EIO, EPERM, EROFS, ETXTBSY]),
        SYS_fsync => ("fsync", &[EBADF, EDQUOT, EINTR, EINVAL, EIO, ENOSPC, ENOSYS, EOPNOTSUPP, EROFS]),
        SYS_unlinkat => ("unlinkat", &[EACCES, EBADF, EBUSY, EFAULT, EINTR, EINVAL, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT,
            ENOMEM, ENOTDIR, EPERM, EROFS]),
        SYS_mkdirat => ("mkdirat", &[EACCES, EBADF, EDQUOT, EEXIST, EFAULT, EINTR, EINVAL, ELOOP, EMLINK, ENAMETOOLONG, ENOENT,
            ENOMEM, ENOSPC, ENOTDIR, EPERM, EROFS]),
        SYS_fchmod => ("fchmod", &[EBADF, EFAULT, EINTR, EINVAL, EIO, EOPNOTSUPP, EPERM, EROFS]),
        SYS_fcntl => ("fcntl", &[EACCES, EAGAIN, EBADF, EBUSY, EDEADLK, EFAULT, EINTR, EINVAL, EMFILE, ENOLCK, ENOTDIR, EPERM]),
        SYS_close => ("close", &[EBADF, EDQUOT, EINTR, EIO, ENOSPC]),
        SYS_pidfd_open => ("pidfd_open", &[EINTR, EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM, ESRCH]),
        SYS_pidfd_send_signal => ("pidfd_send_signal", &[EBADF, EINTR, EINVAL, ENOSYS, EPERM, ESRCH]),
        SYS_ppoll => ("ppoll", &[EFAULT, EINTR, EINVAL, ENOMEM, ENOSYS]),
        SYS_kill => ("kill", &[EINTR, EINVAL, EPERM, ESRCH]),
        SYS_getdents64 => ("getdents64", &[EBADF, EFAULT, EINTR, EINVAL, ENOENT, ENOTDIR]),
        SYS_nanosleep | SYS_clock_nanosleep => ("nanosleep", &[EFAULT, EINTR, EINVAL]),
        _ => ("", &[]),
    }
}

/// The calls of that table.
pub const CALLS_THAT_FAIL: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_flock,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fcntl,
    libc::SYS_close,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ppoll,
    libc::SYS_kill,
    libc::SYS_getdents64,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
];
