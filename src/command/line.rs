//! One line of text, made without `core::fmt`.

use super::sys::Stream;
use core::ffi::CStr;
use pidflock::{Errno, Message, Pid};

/// The longest path, in bytes. A longer name is cut off.
const PATH_MAX: usize = 4095;

/// Room for a name and a message about it.
const ROOM: usize = PATH_MAX + 257;

/// A line of at most `ROOM` bytes. What does not fit is dropped.
pub(crate) struct Line {
    bytes: [u8; ROOM],
    length: usize,
}

impl Line {
    /// A message: `pidflock: `
    pub(crate) fn new() -> Line {
        let mut line = Line::empty();
        line.text("pidflock: ");
        line
    }

    /// A message about a file: `pidflock: /run/x.pid: `
    pub(crate) fn about(file: &CStr) -> Line {
        let mut line = Line::new();
        line.name(file.to_bytes()).text(": ");
        line
    }

    /// A name or another word, cut off so that the message after it has room.
    pub(crate) fn name(&mut self, name: &[u8]) -> &mut Line {
        self.bytes(name.get(..PATH_MAX).unwrap_or(name))
    }

    pub(crate) fn empty() -> Line {
        Line { bytes: [0; ROOM], length: 0 }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Line {
        self.bytes(text.as_bytes())
    }

    /// Text from other programs. Control characters become `?`, so that they neither end the line nor control the
    /// terminal.
    ///
    /// This includes U+0080 to U+009F, in UTF-8 or as a lone byte. Within other UTF-8 characters, such bytes are no
    /// control characters.
    pub(crate) fn bytes(&mut self, mut bytes: &[u8]) -> &mut Line {
        while let Some((first, after)) = bytes.split_first() {
            let continued = match first {
                0xc2..=0xdf => 1,
                0xe0..=0xef => 2,
                0xf0..=0xf4 => 3,
                _ => 0,
            };
            let tail = after.get(..continued).filter(|tail| tail.iter().all(|byte| matches!(byte, 0x80..=0xbf)));
            let tail = tail.unwrap_or_default();
            match (first, tail) {
                (0xc2, [0x80..=0x9f]) | (0x00..=0x1f | 0x7f..=0x9f, []) => self.push(b"?"),
                _ => self.push(bytes.get(..=tail.len()).unwrap_or_default()),
            }
            bytes = after.get(tail.len()..).unwrap_or_default();
        }
        self
    }

    /// What does not fit is dropped.
    fn push(&mut self, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *to = *from;
            self.length += 1;
        }
    }

    pub(crate) fn number(&mut self, number: u32) -> &mut Line {
        if number > 9 {
            self.number(number / 10);
        }
        self.bytes(&[b'0' + (number % 10) as u8])
    }

    pub(crate) fn process(&mut self, pid: Pid) -> &mut Line {
        self.text("process ").number(pid.as_u32())
    }

    pub(crate) fn message(&mut self, message: Message) -> &mut Line {
        for word in message.words {
            self.text(word);
        }
        if let Some(number) = message.number {
            self.number(number);
        }
        self
    }

    /// A system call of the command, and why it failed.
    pub(crate) fn failure(&mut self, call: &str, errno: Errno) -> &mut Line {
        self.text(call).text(": ").message(errno.message())
    }

    /// Ends the line and prints it.
    pub(crate) fn send(&mut self, stream: Stream) -> Result<(), Errno> {
        self.length = self.length.min(ROOM - 1);
        if let Some(end) = self.bytes.get_mut(self.length) {
            *end = b'\n';
        }
        send(stream, self.bytes.get(..=self.length).unwrap_or_default())
    }

    /// Ends the line and prints it to standard error. If that fails, there is nowhere left to say so.
    pub(crate) fn complain(&mut self) {
        let _nowhere_to_say_so = self.send(Stream::ERR);
    }
}

/// Writes all of it.
pub(crate) fn send(stream: Stream, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match stream.write(bytes)? {
            0 => return Err(Errno::Io),
            written => bytes = bytes.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}
