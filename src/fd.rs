//! Descriptors: those of std, or minimal twins with the same names without std.

#[cfg(feature = "std")]
#[cfg_attr(docsrs, doc(auto_cfg = false))] // the names exist without std, too
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
    /// Ignores the result of close(2). After `EINTR` or `EIO` the descriptor is closed anyway, on every system that we
    /// know. Closing again could close another file's descriptor.
    #[derive(Debug)]
    pub struct OwnedFd(RawFd);

    /// A descriptor that another value owns and keeps open for `'a`. Twin of `std::os::fd::BorrowedFd`.
    #[derive(Clone, Copy, Debug)]
    pub struct BorrowedFd<'a>(RawFd, PhantomData<&'a OwnedFd>);

    /// A type that can lend a descriptor. Twin of `std::os::fd::AsFd`.
    pub trait AsFd {
        /// Lends the descriptor.
        fn as_fd(&self) -> BorrowedFd<'_>;
    }

    /// A type that has the number of a descriptor. Twin of `std::os::fd::AsRawFd`.
    pub trait AsRawFd {
        /// The number. It is valid only while its owner lives.
        fn as_raw_fd(&self) -> RawFd;
    }

    /// A type that can own a descriptor given as a number. Twin of `std::os::fd::FromRawFd`.
    pub trait FromRawFd {
        /// Takes ownership of `fd`.
        ///
        /// # Safety
        /// `fd` is open, and no other value owns it.
        unsafe fn from_raw_fd(fd: RawFd) -> Self;
    }

    /// A type that can give its descriptor away as a number. Twin of `std::os::fd::IntoRawFd`.
    pub trait IntoRawFd {
        /// Gives away the number, and the duty to close it.
        fn into_raw_fd(self) -> RawFd;
    }

    impl BorrowedFd<'_> {
        /// A borrowed descriptor with this number.
        ///
        /// # Safety
        /// `fd` stays open while the result is used.
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
            // SAFETY: the maker of this `OwnedFd` promised that it owns the descriptor. It is not used again.
            unsafe { libc::close(self.0) };
        }
    }
}
