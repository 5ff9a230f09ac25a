//! The claim: the PID in a PID file. Reads and stamps it.

use crate::{
    error::Call,
    failure::Failure,
    fd::BorrowedFd,
    pid::{self, DIGITS_MAX, LINE_MAX, Pid},
    sys,
};

/// The longest content that a stamp replaces in one write, in bytes.
const STAMP_ROOM: u8 = 32;

const _: () = assert!(DIGITS_MAX < STAMP_ROOM as usize, "a PID and its newline have room");

/// Reads the claim in an open file. By descriptor: the name may lead to another file by now.
pub(crate) fn read(file: BorrowedFd<'_>) -> Result<Option<Pid>, Failure> {
    // One extra byte shows that a line is too long.
    let mut buffer = [0; LINE_MAX + 1];
    Ok(Pid::parse(sys::read_head(file, &mut buffer)?))
}

/// Writes a PID over the content of the file, `size` bytes long. One write, so no reader ever sees a part of either:
/// the PID, a newline, and more newlines up to the old length. Returns the length without these, in bytes, for
/// [`trim`].
///
/// Two simpler ways are wrong. Truncating first shows readers an empty file in place of a PID. Writing without the
/// padding shows them the new digits followed by the old ones. Only content that is too long for a claim is truncated
/// first.
pub(crate) fn stamp(file: BorrowedFd<'_>, pid: Pid, size: u64) -> Result<u8, Failure> {
    let mut text = [b'\n'; STAMP_ROOM as usize];
    let length = pid::write_decimal(pid.as_u32(), &mut text) + 1;
    let padded = match u8::try_from(size) {
        Ok(size) if size <= STAMP_ROOM => length.max(size),
        _ => {
            sys::truncate(file, 0)?; // foreign content
            length
        }
    };
    write_whole(file, text.get(..padded.into()).unwrap_or_default())?;
    Ok(length)
}

/// Cuts off the padding of a stamp that replaced `size` bytes. Longer content was already cut off before the stamp.
pub(crate) fn trim(file: BorrowedFd<'_>, length: u8, size: u64) -> Result<(), Failure> {
    let is_padded = size > length.into() && size <= STAMP_ROOM.into();
    if is_padded { sys::truncate(file, length) } else { Ok(()) }
}

/// Empties the file, so that it has no claim.
pub(crate) fn erase(file: BorrowedFd<'_>) -> Result<(), Failure> {
    sys::truncate(file, 0)
}

/// Writes all of the text at the head of the file. If it can write only a part, leaves the file empty.
fn write_whole(file: BorrowedFd<'_>, text: &[u8]) -> Result<(), Failure> {
    let mut done = 0_u8;
    let failure = loop {
        let Some(rest) = text.get(done.into()..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        match sys::write_at(file, rest, done) {
            Ok(0) => break Failure::of(Call::Pwrite, libc::ENOSPC),
            Ok(written) => done += written, // after a short write, the next one says why
            Err(failure) => break failure,
        }
    };
    if done > 0 {
        erase(file)?;
    }
    Err(failure)
}
