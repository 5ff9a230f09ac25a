//! The errors of each call.

/// Calls that fail alike, their name, and the errors that the manual page lists. Also EINTR for calls that may be
/// interrupted somewhere, and ENOSYS and EPERM if seccomp filters are known to return them.
type Row = (&'static [i64], &'static str, &'static [i32]);

#[rustfmt::skip]
const TABLE: &[Row] = {
    use libc::*;
    &[
        (&[SYS_openat], "openat", &[EACCES, EBADF, EBUSY, EDQUOT, EEXIST, EFAULT, EFBIG, EINTR, EINVAL, EISDIR, ELOOP, EMFILE,
            ENAMETOOLONG, ENFILE, ENODEV, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, EOVERFLOW, EPERM, EROFS, ETXTBSY,
            EWOULDBLOCK]),
        (&[SYS_flock], "flock", &[EBADF, EINTR, EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP, EWOULDBLOCK]),
        (&[SYS_newfstatat, SYS_fstat], "fstat", &[EACCES, EBADF, EFAULT, EINTR, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM,
            ENOTDIR, EOVERFLOW]),
        (&[SYS_pread64], "pread", &[EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, EISDIR, ENXIO, EOVERFLOW, ESPIPE]),
        (&[SYS_pwrite64], "pwrite", &[EAGAIN, EBADF, EDESTADDRREQ, EDQUOT, EFAULT, EFBIG, EINTR, EINVAL, EIO, ENOSPC, ENXIO,
            EOVERFLOW, EPERM, EPIPE, ESPIPE]),
        (&[SYS_ftruncate], "ftruncate", &[EBADF, EFBIG, EINTR, EINVAL, EIO, EPERM, EROFS, ETXTBSY]),
        (&[SYS_fsync], "fsync", &[EBADF, EDQUOT, EINTR, EINVAL, EIO, ENOSPC, ENOSYS, EOPNOTSUPP, EROFS]),
        (&[SYS_unlinkat], "unlinkat", &[EACCES, EBADF, EBUSY, EFAULT, EINTR, EINVAL, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT,
            ENOMEM, ENOTDIR, EPERM, EROFS]),
        (&[SYS_mkdirat], "mkdirat", &[EACCES, EBADF, EDQUOT, EEXIST, EFAULT, EINTR, EINVAL, ELOOP, EMLINK, ENAMETOOLONG, ENOENT,
            ENOMEM, ENOSPC, ENOTDIR, EPERM, EROFS]),
        (&[SYS_fchmod], "fchmod", &[EBADF, EFAULT, EINTR, EINVAL, EIO, EOPNOTSUPP, EPERM, EROFS]),
        (&[SYS_fcntl], "fcntl", &[EACCES, EAGAIN, EBADF, EBUSY, EDEADLK, EFAULT, EINTR, EINVAL, EMFILE, ENOLCK, ENOTDIR, EPERM]),
        (&[SYS_close], "close", &[EBADF, EDQUOT, EINTR, EIO, ENOSPC]),
        (&[SYS_pidfd_open], "pidfd_open", &[EINTR, EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS, EPERM, ESRCH]),
        (&[SYS_pidfd_send_signal], "pidfd_send_signal", &[EBADF, EINTR, EINVAL, ENOSYS, EPERM, ESRCH]),
        (&[SYS_ppoll], "ppoll", &[EFAULT, EINTR, EINVAL, ENOMEM, ENOSYS]),
        (&[SYS_kill], "kill", &[EINTR, EINVAL, EPERM, ESRCH]),
        (&[SYS_getdents64], "getdents64", &[EBADF, EFAULT, EINTR, EINVAL, ENOENT, ENOTDIR]),
        (&[SYS_nanosleep, SYS_clock_nanosleep], "nanosleep", &[EFAULT, EINTR, EINVAL]),
    ]
};

/// The name of a call, and its errors; nothing for a call that is not in the table.
pub fn errors_of(call: i64) -> (&'static str, &'static [i32]) {
    let row = TABLE.iter().find(|(calls, _, _)| calls.contains(&call));
    row.map_or(("", &[]), |(_, name, errors)| (name, errors))
}

/// The calls of the table.
pub fn calls_that_fail() -> impl Iterator<Item = i64> {
    TABLE.iter().flat_map(|(calls, _, _)| calls.iter().copied())
}
