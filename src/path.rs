//! A path as bytes, cut into directory and name; what is refused. Pure.

use crate::Error;
use core::ffi::CStr;

/// The longest path, in bytes: `PATH_MAX` of Linux, less the NUL that ends it.
const PATH_MOST: usize = 4095;

/// The longest name, in bytes: `NAME_MAX` on every system that we know.
const NAME_MOST: usize = 255;

/// Bytes that end in a NUL and hold no other: what the kernel takes for a string. The last byte is never written.
#[derive(Debug)]
pub(crate) struct Text<const N: usize>([u8; N]);

/// A directory, with room for the longest path.
pub(crate) type Directory = Text<{ PATH_MOST + 1 }>;

/// The name of a file in its directory.
pub(crate) type Name = Text<{ NAME_MOST + 1 }>;

impl<const N: usize> Text<N> {
    pub(crate) const EMPTY: Text<N> = Text([0; N]);

    /// Becomes this text. Refuses what is too long, and a NUL. In place, since it may be most of the stack that an operation
    /// needs.
    pub(crate) fn set(&mut self, text: &[u8]) -> Result<&CStr, Error> {
        if text.len() >= N || text.iter().any(|byte| matches!(byte, 0)) {
            return Err(Error::InvalidPath);
        }
        for (to, from) in self.0.iter_mut().zip(text) {
            *to = *from;
        }
        Ok(self.as_c_str())
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default() // the last byte is always a NUL
    }
}

/// The directory of a path, up to and with its last slash, or empty; and the name after it.
pub(crate) fn cut(path: &[u8]) -> Result<(&[u8], Name), Error> {
    if path.len() > PATH_MOST {
        return Err(Error::InvalidPath);
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if matches!(name, b"" | b"." | b"..") {
        return Err(Error::InvalidPath);
    }
    let directory = path.get(..path.len().saturating_sub(name.len())).unwrap_or_default();
    let mut text = Name::EMPTY;
    text.set(name)?;
    Ok((directory, text))
}

/// A path: anything that is bytes, owned or borrowed.
///
/// `str`, `[u8]` (also as `b"..."`) and `CStr`; with the feature `std` also `Path`, `PathBuf`, `OsStr`, `OsString` and
/// `String`; and references to all of them. Sealed: the crate alone implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a path for pidflock",
    note = "a path is `&str`, `&[u8]` or `&CStr`; `Path`, `PathBuf`, `OsStr`, `OsString` and `String` need the feature `std`"
)]
pub trait AsPath {
    #[doc(hidden)]
    fn bytes(&self, seal: Seal) -> &[u8];
}

/// Seals `AsPath`: nobody outside can name it.
#[derive(Debug)]
pub struct Seal;

impl<T: AsPath + ?Sized> AsPath for &T {
    fn bytes(&self, seal: Seal) -> &[u8] {
        (**self).bytes(seal)
    }
}

impl AsPath for str {
    fn bytes(&self, _: Seal) -> &[u8] {
        self.as_bytes()
    }
}

impl AsPath for [u8] {
    fn bytes(&self, _: Seal) -> &[u8] {
        self
    }
}

impl<const N: usize> AsPath for [u8; N] {
    fn bytes(&self, _: Seal) -> &[u8] {
        self
    }
}

impl AsPath for CStr {
    fn bytes(&self, _: Seal) -> &[u8] {
        self.to_bytes()
    }
}

#[cfg(feature = "std")]
mod with_std {
    use super::{AsPath, Seal};
    use std::{ffi::*, os::unix::ffi::OsStrExt, path::*, string::String};

    impl AsPath for OsStr {
        fn bytes(&self, _: Seal) -> &[u8] {
            self.as_bytes()
        }
    }

    impl AsPath for OsString {
        fn bytes(&self, _: Seal) -> &[u8] {
            self.as_bytes()
        }
    }

    impl AsPath for Path {
        fn bytes(&self, _: Seal) -> &[u8] {
            self.as_os_str().as_bytes()
        }
    }

    impl AsPath for PathBuf {
        fn bytes(&self, _: Seal) -> &[u8] {
            self.as_os_str().as_bytes()
        }
    }

    impl AsPath for String {
        fn bytes(&self, _: Seal) -> &[u8] {
            self.as_bytes()
        }
    }
}
