//! The claim: what is written in a PID file. Read, and stamped.

use crate::{
    error::{Call, Errno, Error},
    fd::BorrowedFd,
    pid::{self, DIGITS_MAX, LINE_MAX, Pid},
    sys,
};

/// The longest content that a stamp replaces in one write, in bytes.
const STAMP_ROOM: usize = 32;

const _: () = assert!(DIGITS_MAX < STAMP_ROOM, "a PID and its newline have room");

/// The claim in an open file. Read by descriptor: the name may lead to another file by now.
pub(crate) fn read(file: BorrowedFd<'_>) -> Result<Option<Pid>, Error> {
    // One byte more than the longest line shows that a line is longer.
    let mut buffer = [0; LINE_MAX + 1];
    Ok(Pid::parse(sys::read_head(file, &mut buffer)?))
}

/// A PID that was written into a file, and how long the file is now.
pub(crate) struct Stamp {
    /// In bytes, with the newline.
    length: u8,
    /// In bytes, with the padding.
    padded: u8,
}

impl Stamp {
    /// Writes a PID over the content of the file, `size` bytes long. One write, so that no reader ever sees a part of
    /// either: the PID, a newline, and more newlines up to the old length.
    ///
    /// Tempting and wrong: to truncate first, which shows readers an empty file where there was a PID; to write without
    /// the padding, which shows them the new digits and then the old ones.
    pub(crate) fn write(file: BorrowedFd<'_>, pid: Pid, size: u64) -> Result<Stamp, Error> {
        let mut text = [b'\n'; STAMP_ROOM];
        let length = pid::write_decimal(pid.as_u32(), &mut text) + 1;
        let old = match usize::try_from(size) {
            Ok(size) if size <= STAMP_ROOM => size,
            _ => {
                sys::truncate(file, 0)?; // foreign content
                0
            }
        };
        let padded = length.max(old);
        write_whole(file, text.get(..padded).unwrap_or_default())?;
        Ok(Stamp { length: as_u8(length), padded: as_u8(padded) })
    }

    /// Cuts the padding off.
    pub(crate) fn trim(self, file: BorrowedFd<'_>) -> Result<(), Error> {
        if self.padded > self.length { sys::truncate(file, self.length) } else { Ok(()) }
    }
}

/// Leaves no claim.
pub(crate) fn erase(file: BorrowedFd<'_>) -> Result<(), Error> {
    sys::truncate(file, 0)
}

/// Writes all of it at the head of the file, or leaves the file empty if it can write only a part.
fn write_whole(file: BorrowedFd<'_>, text: &[u8]) -> Result<(), Error> {
    let mut done = 0;
    let error = loop {
        let Some(rest) = text.get(done..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        match sys::write_at(file, rest, as_u8(done)) {
            Ok(0) => break Error::Sys { call: Call::Pwrite, errno: Errno::StorageFull },
            Ok(written) => done += written, // if it was short, the next one says why
            Err(error) => break error,
        }
    };
    if done > 0 {
        erase(file)?;
    }
    Err(error)
}

/// Within `STAMP_ROOM`, so that nothing is lost.
fn as_u8(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}
