//! One connection to a partition's leader, for Produce requests alone.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The version whose layout is written here: the first that takes every codec,
/// and one that brokers from 2.1 on understand.
const PRODUCE_VERSION: i16 = 7;
const PRODUCE: i16 = 0;
const CLIENT: &[u8] = b"refold-seed";
/// How long the broker may take to have a batch on all replicas.
const REPLICATED_WITHIN: Duration = Duration::from_secs(30);
const CONNECTED_WITHIN: Duration = Duration::from_secs(8);
/// Longest answer that is believed: one partition's takes some seventy bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// What the broker said about one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is in the log, its first record at this offset.
    At(i64),
    /// It was refused with this error code.
    Refused(i16),
}

/// A connection; dropped at the first error, because what was on its way is
/// then in doubt.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    topic: String,
    next_id: i32,
    /// Request that the next answer belongs to.
    awaited_id: i32,
    answer: Vec<u8>,
}

impl Connection {
    pub(super) fn open(host: &str, port: u16, topic: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECTED_WITHIN) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    // Longer than the broker's own limit, so that its answer
                    // comes first.
                    let patience = Some(REPLICATED_WITHIN + Duration::from_secs(10));
                    stream.set_read_timeout(patience)?;
                    stream.set_write_timeout(patience)?;
                    return Ok(Self {
                        stream,
                        topic: topic.to_owned(),
                        next_id: 0,
                        awaited_id: 0,
                        answer: Vec::new(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends one batch; its answer comes in the order of sending.
    pub(super) fn send(&mut self, partition: u32, batch: &[u8]) -> io::Result<()> {
        let head = self.head(partition, batch.len());
        self.next_id = self.next_id.wrapping_add(1);
        self.stream.write_all(&head)?;
        self.stream.write_all(batch)
    }

    /// Everything in front of the batch.
    fn head(&self, partition: u32, batch_bytes: usize) -> Vec<u8> {
        let mut head = vec![0; 4];
        head.extend_from_slice(&PRODUCE.to_be_bytes());
        head.extend_from_slice(&PRODUCE_VERSION.to_be_bytes());
        head.extend_from_slice(&self.next_id.to_be_bytes());
        string(&mut head, CLIENT);
        // No transaction; acknowledged by all replicas in sync.
        head.extend_from_slice(&(-1_i16).to_be_bytes());
        head.extend_from_slice(&(-1_i16).to_be_bytes());
        let patience_ms = REPLICATED_WITHIN.as_millis() as i32;
        head.extend_from_slice(&patience_ms.to_be_bytes());
        // One topic, one partition.
        head.extend_from_slice(&1_i32.to_be_bytes());
        string(&mut head, self.topic.as_bytes());
        head.extend_from_slice(&1_i32.to_be_bytes());
        head.extend_from_slice(&partition.to_be_bytes());
        head.extend_from_slice(&(batch_bytes as i32).to_be_bytes());
        let size = (head.len() - 4 + batch_bytes) as i32;
        head[..4].copy_from_slice(&size.to_be_bytes());
        head
    }

    /// Waits for the next answer.
    pub(super) fn receive(&mut self) -> io::Result<Answer> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > ANSWER_BYTES {
            return Err(strange("an answer of many bytes"));
        }
        self.answer.resize(size, 0);
        self.stream.read_exact(&mut self.answer)?;
        let mut reader = Reader(&self.answer);
        if i32::from_be_bytes(reader.take()?) != self.awaited_id {
            return Err(strange("the answer to another request"));
        }
        self.awaited_id = self.awaited_id.wrapping_add(1);
        reader.answer(self.topic.len())
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text);
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| strange("an answer that was cut short"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// The verdict on the one partition of the one topic that was asked about.
    fn answer(&mut self, topic_bytes: usize) -> io::Result<Answer> {
        let topics = i32::from_be_bytes(self.take()?);
        let name = usize::from(u16::from_be_bytes(self.take()?));
        if topics != 1 || name != topic_bytes {
            return Err(strange("an answer about other topics"));
        }
        self.0 = self.0.get(name..).unwrap_or_default();
        let partitions = i32::from_be_bytes(self.take()?);
        if partitions != 1 {
            return Err(strange("an answer about other partitions"));
        }
        let _partition: [u8; 4] = self.take()?;
        let code = i16::from_be_bytes(self.take()?);
        let offset = i64::from_be_bytes(self.take()?);
        Ok(match code {
            0 => Answer::At(offset),
            code => Answer::Refused(code),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i16, offset: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&1_i32.to_be_bytes());
        string(&mut bytes, b"log");
        bytes.extend_from_slice(&1_i32.to_be_bytes());
        bytes.extend_from_slice(&5_i32.to_be_bytes());
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&[0; 20]);
        bytes
    }

    #[test]
    fn an_answer_says_where_the_batch_lies_or_why_not() {
        let read = |bytes: &[u8]| Reader(bytes).answer(3).expect("whole");
        assert_eq!(read(&answer(0, 1 << 40)), Answer::At(1 << 40));
        assert_eq!(read(&answer(6, -1)), Answer::Refused(6));
    }

    #[test]
    fn a_strange_answer_is_an_error() {
        let whole = answer(0, 7);
        for length in 0..whole.len() - 20 {
            assert!(Reader(&whole[..length]).answer(3).is_err(), "{length}");
        }
        assert!(Reader(&whole).answer(4).is_err(), "another topic");
        let mut two = whole.clone();
        two[3] = 2;
        assert!(Reader(&two).answer(3).is_err(), "two topics");
    }
}
