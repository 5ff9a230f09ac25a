//! Descriptors: std's where there is std, and minimal twins of the same names where there is not.

#[cfg(feature = "std")]
#[cfg_attr(docsrs, doc(auto_cfg = false))] // the names are there without std, too
pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

#[cfg(not(feature = "std"))]
pub use twin::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

#[cfg(not(feature = "std"))]
mod twin {
    use core::{ffi::c_int, marker::PhantomData, mem};

    /// A file descriptor as the kernel has it. Twin of `std::os::fd::RawFd`.
    pub type RawFd = c_int;

    /// A descriptor that is closed on drop. Twin of `std::os::fd::OwnedFd`.
    ///
    /// The result of close(2) is ignored: after `EINTR` or `EIO` the descriptor is gone all the same on every system
    /// that we know, and closing again could close somebody else's.
    #[derive(Debug)]
    pub struct OwnedFd(RawFd);

    /// A descriptor that somebody else owns and keeps open for `'a`. Twin of `std::os::fd::BorrowedFd`.
    #[derive(Clone, Copy, Debug)]
    pub struct BorrowedFd<'a>(RawFd, PhantomData<&'a OwnedFd>);

    /// What can lend a descriptor. Twin of `std::os::fd::AsFd`.
    pub trait AsFd {
        /// Lends the descriptor.
        fn as_fd(&self) -> BorrowedFd<'_>;
    }

    /// What has the number of a descriptor. Twin of `std::os::fd::AsRawFd`.
    pub trait AsRawFd {
        /// The number, which is valid only as long as its owner lives.
        fn as_raw_fd(&self) -> RawFd;
    }

    /// What can own a descriptor given as a number. Twin of `std::os::fd::FromRawFd`.
    pub trait FromRawFd {
        /// Takes ownership of `fd`.
        ///
        /// # Safety
        /// `fd` is open, and nobody else owns it.
        unsafe fn from_raw_fd(fd: RawFd) -> Self;
    }

    /// What can give its descriptor away as a number. Twin of `std::os::fd::IntoRawFd`.
    pub trait IntoRawFd {
        /// Gives the number away, and with it the duty to close it.
        fn into_raw_fd(self) -> RawFd;
    }

    impl BorrowedFd<'_> {
        /// A borrowed descriptor with this number.
        ///
        /// # Safety
        /// `fd` stays open for as long as the result is used.
        #[must_use]
        pub const unsafe fn borrow_raw(fd: RawFd) -> Self {
            BorrowedFd(fd, PhantomData)
        }
    }

    impl<T: AsFd + ?Sized> AsFd for &T {
        fn as_fd(&self) -> BorrowedFd<'_> {
            (**self).as_fd()
        }
    }

    impl AsFd for BorrowedFd<'_> {
        fn as_fd(&self) -> BorrowedFd<'_> {
            *self
        }
    }

    impl AsFd for OwnedFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            BorrowedFd(self.0, PhantomData)
        }
    }

    impl AsRawFd for BorrowedFd<'_> {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    impl AsRawFd for OwnedFd {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    impl FromRawFd for OwnedFd {
        unsafe fn from_raw_fd(fd: RawFd) -> OwnedFd {
            OwnedFd(fd)
        }
    }

    impl IntoRawFd for OwnedFd {
        fn into_raw_fd(self) -> RawFd {
            let fd = self.0;
            mem::forget(self);
            fd
        }
    }

    impl Drop for OwnedFd {
        fn drop(&mut self) {
            // SAFETY: whoever made this `OwnedFd` promised that the descriptor is its own, and it is used no more.
            unsafe { libc::close(self.0) };
        }
    }
}
