//! A path as bytes, cut into directory and name; what is refused. Pure.

use crate::{Error, sys};
use core::ffi::CStr;

/// The longest path, in bytes: `PATH_MAX` of Linux, less the NUL that ends it.
pub(crate) const PATH_MOST: usize = 4095;

/// The longest name, in bytes: `NAME_MAX` on every system that we know.
pub(crate) const NAME_MOST: usize = 255;

/// The directory of a path, up to and with its last slash, or empty; and the name after it.
pub(crate) fn cut(path: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if path.len() > PATH_MOST || matches!(name, b"" | b"." | b"..") {
        return Err(Error::InvalidPath);
    }
    Ok((path.get(..path.len() - name.len()).unwrap_or_default(), name))
}

/// Makes of the text what the kernel takes for a string: a NUL at its end, and none inside. In a buffer of the caller, whose
/// last byte is a NUL already: it may be most of the stack that an operation needs.
pub(crate) fn c_string<'b>(buffer: &'b mut [u8], text: &[u8]) -> Result<&'b CStr, Error> {
    if text.len() >= buffer.len() || text.iter().any(|byte| matches!(byte, 0)) {
        return Err(Error::InvalidPath);
    }
    for (to, from) in buffer.iter_mut().zip(text) {
        *to = *from;
    }
    if let Some(end) = buffer.get_mut(text.len()) {
        *end = 0;
    }
    Ok(sys::c_str(buffer))
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
