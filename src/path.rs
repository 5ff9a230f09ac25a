//! A path as bytes, split into directory and name, or refused. Pure.

use crate::failure::Failure;

/// The longest path, in bytes: Linux's `PATH_MAX`, less the terminating NUL.
pub(crate) const PATH_MAX: usize = 4095;

/// The longest name, in bytes, on every system that we know.
pub(crate) const NAME_MAX: usize = 255;

/// The two parts of a path.
pub(crate) struct Parts<'p> {
    /// All up to the last slash, included. Empty if there is none.
    pub(crate) directory: &'p [u8],
    /// All after the last slash.
    pub(crate) name: &'p [u8],
}

/// Splits a path after its last slash. Refuses what cannot be the path of a file.
pub(crate) fn cut(path: &[u8]) -> Result<Parts<'_>, Failure> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let too_long = path.len() > PATH_MAX || name.len() > NAME_MAX;
    // (`contains` would compare eight bytes at a time, with ten times the code.)
    if too_long || matches!(name, b"" | b"." | b"..") || path.iter().any(|byte| matches!(byte, 0)) {
        return Err(Failure::INVALID_PATH);
    }
    Ok(Parts { directory: path.get(..path.len() - name.len()).unwrap_or_default(), name })
}

/// A path: anything that is bytes, owned or borrowed.
///
/// `str`, `[u8]` (also as `b"..."`) and `CStr`. With the feature `std`, also `Path`, `PathBuf`, `OsStr`, `OsString`,
/// `String`, `CString`, `Vec<u8>`, and `Box` and `Cow` of a path. References to all of them are paths, too. The trait
/// is sealed: only this crate implements it.
pub trait AsPath: sealed::Bytes {}

impl<T: sealed::Bytes + ?Sized> AsPath for T {}

/// Seals `AsPath`: no code outside this crate can name `Bytes`.
pub(crate) mod sealed {
    use core::ffi::CStr;

    #[diagnostic::on_unimplemented(
        message = "`{Self}` is not a path for pidflock",
        note = "a path is `&str`, `&[u8]` or `&CStr`; `Path`, `PathBuf`, `OsStr`, `OsString` and `String` need the feature `std`"
    )]
    pub trait Bytes {
        fn bytes(&self) -> &[u8];
    }

    impl<T: Bytes + ?Sized> Bytes for &T {
        fn bytes(&self) -> &[u8] {
            (**self).bytes()
        }
    }

    impl Bytes for str {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    impl Bytes for [u8] {
        fn bytes(&self) -> &[u8] {
            self
        }
    }

    impl<const N: usize> Bytes for [u8; N] {
        fn bytes(&self) -> &[u8] {
            self
        }
    }

    impl Bytes for CStr {
        fn bytes(&self) -> &[u8] {
            self.to_bytes()
        }
    }
}

#[cfg(feature = "std")]
mod with_std {
    use super::sealed::Bytes;
    use std::{
        borrow::{Cow, ToOwned},
        boxed::Box,
        ffi::{CString, OsStr, OsString},
        os::unix::ffi::OsStrExt,
        path::{Path, PathBuf},
        string::String,
        vec::Vec,
    };

    impl Bytes for OsStr {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    impl Bytes for OsString {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    impl Bytes for Path {
        fn bytes(&self) -> &[u8] {
            self.as_os_str().as_bytes()
        }
    }

    impl Bytes for PathBuf {
        fn bytes(&self) -> &[u8] {
            self.as_os_str().as_bytes()
        }
    }

    impl Bytes for String {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    impl Bytes for CString {
        fn bytes(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    impl Bytes for Vec<u8> {
        fn bytes(&self) -> &[u8] {
            self
        }
    }

    impl<T: Bytes + ?Sized> Bytes for Box<T> {
        fn bytes(&self) -> &[u8] {
            (**self).bytes()
        }
    }

    impl<T: Bytes + ToOwned + ?Sized> Bytes for Cow<'_, T> {
        fn bytes(&self) -> &[u8] {
            (**self).bytes()
        }
    }
}
