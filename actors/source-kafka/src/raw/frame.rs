//! Frames as they arrive, piece by piece, in buffers that are used again.

use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;

use super::fault::Failure;
use super::transport::Transport;

/// Room that a frame gets before any of it has arrived. A length that a broken
/// broker made up costs no more than this; a large frame doubles its room as it comes.
const FIRST_ROOM: usize = 2 << 20;

/// Buffers that wait for their readers to let go of them: one that is being
/// unpacked, one that was, and one more.
const SPARES: usize = 3;

/// A buffer above this size is not kept for the next frame.
const SPARE_BYTES: usize = 8 << 20;

/// Collects one frame at a time.
pub(crate) struct Inbox {
    limit: usize,
    head: [u8; 4],
    head_filled: usize,
    /// The frame under way; longer than what is `filled`.
    room: BytesMut,
    filled: usize,
    /// Whether anything arrived since this was last asked.
    progress: bool,
    spares: Vec<Bytes>,
}

impl Inbox {
    /// Frames of more than `limit` bytes are refused.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            head: [0; 4],
            head_filled: 0,
            room: BytesMut::new(),
            filled: 0,
            progress: false,
            spares: Vec::new(),
        }
    }

    /// Whether anything arrived since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Reads once; the frame, when that completed it.
    pub(crate) fn pull(
        &mut self,
        from: &mut Transport,
        left: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        if self.head_filled < self.head.len() {
            let Some(count) = from.read(&mut self.head[self.head_filled..], left)? else {
                return Ok(None);
            };
            self.progress = true;
            self.head_filled += count;
            if self.head_filled < self.head.len() {
                return Ok(None);
            }
            let expected = self.expected()?;
            self.room = self.spare();
            self.grow(expected.min(FIRST_ROOM));
        }
        let expected = self.expected()?;
        if self.filled == self.room.len() && self.filled < expected {
            self.grow(expected.min(self.filled * 2));
        }
        let end = expected.min(self.room.len());
        let Some(count) = from.read(&mut self.room[self.filled..end], left)? else {
            return Ok(None);
        };
        self.progress = true;
        self.filled += count;
        Ok((self.filled == expected).then(|| self.finish(expected)))
    }

    /// The size of the frame under way.
    fn expected(&self) -> Result<usize, Failure> {
        let size = u32::from_be_bytes(self.head) as usize;
        // An answer holds at least the number of its request.
        if size < 4 || size > self.limit {
            return Err(Failure::Passing(format!(
                "it announces a frame of {size} bytes, not 4 to {} \
                 (check security.protocol, and receive.message.max.bytes)",
                self.limit
            )));
        }
        Ok(size)
    }

    fn grow(&mut self, len: usize) {
        if self.room.len() < len {
            self.room.resize(len, 0);
        }
    }

    /// A buffer that nobody reads any more, with its old content: it will be
    /// written over, and clearing it would cost a pass over memory.
    fn spare(&mut self) -> BytesMut {
        for at in 0..self.spares.len() {
            match self.spares.swap_remove(at).try_into_mut() {
                Ok(buffer) => return buffer,
                Err(in_use) => {
                    self.spares.push(in_use);
                    let last = self.spares.len() - 1;
                    self.spares.swap(at, last);
                }
            }
        }
        BytesMut::new()
    }

    fn finish(&mut self, expected: usize) -> Bytes {
        let mut room = std::mem::take(&mut self.room);
        self.head_filled = 0;
        self.filled = 0;
        if expected > SPARE_BYTES {
            room.truncate(expected);
            return room.freeze();
        }
        let whole = room.freeze();
        let frame = whole.slice(..expected);
        if self.spares.len() == SPARES {
            self.spares.remove(0);
        }
        self.spares.push(whole);
        frame
    }
}
