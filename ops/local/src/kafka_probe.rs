//! One question to a broker: which cluster are you, and who is alive in it?
//!
//! An open port proves nothing, another process may own it. A Metadata answer carries the
//! cluster id, so it proves that *this* cluster is up. The request is written by hand (version
//! 8, the last one without tagged fields) because a client library would be a hundred times the
//! code of this file.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a broker says about its cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClusterView {
    pub(crate) cluster_id: String,
    /// Ports of the brokers that are alive now, as advertised.
    pub(crate) broker_ports: Vec<u16>,
    /// Whether somebody leads the metadata quorum.
    pub(crate) has_controller: bool,
}

const METADATA: i16 = 3;
const VERSION: i16 = 8;
const CORRELATION: i32 = 0x0ef0_1d00;
const CLIENT: &[u8] = b"refold-local";
/// No metadata answer without topics is near this; more means that it is not a broker.
const MAX_ANSWER: usize = 1 << 20;

/// Asks the broker on a loopback port.
pub(crate) fn ask(port: u16, patience: Duration) -> io::Result<ClusterView> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&request())?;
    let mut length = [0_u8; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| malformed())?;
    if length > MAX_ANSWER {
        return Err(malformed());
    }
    let mut body = vec![0_u8; length];
    stream.read_exact(&mut body)?;
    parse(&body).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a Kafka metadata answer")
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((CLIENT.len() as i16).to_be_bytes());
    body.extend(CLIENT);
    body.extend(0_i32.to_be_bytes()); // topics: none, which is not the same as null
    body.extend([0, 0, 0]); // create topics, authorised operations (two): no
    let mut framed = (body.len() as i32).to_be_bytes().to_vec();
    framed.extend(body);
    framed
}

fn parse(body: &[u8]) -> Option<ClusterView> {
    let mut at = Cursor(body);
    if at.int32()? != CORRELATION {
        return None;
    }
    at.int32()?; // throttle time
    let brokers = at.int32()?;
    let mut broker_ports = Vec::new();
    for _ in 0..brokers {
        at.int32()?; // node id
        at.string()?; // host
        broker_ports.push(u16::try_from(at.int32()?).ok()?);
        at.string()?; // rack
    }
    let cluster_id = at.string()?.unwrap_or_default();
    let controller = at.int32()?;
    Some(ClusterView {
        cluster_id,
        broker_ports,
        has_controller: controller >= 0,
    })
}

/// Reads big-endian fields off the front of a slice; `None` when it is too short.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn int32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A nullable string: length -1 is null.
    fn string(&mut self) -> Option<Option<String>> {
        let length = i16::from_be_bytes(self.take(2)?.try_into().ok()?);
        let Ok(length) = usize::try_from(length) else {
            return Some(None);
        };
        Some(Some(String::from_utf8(self.take(length)?.to_vec()).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut body = CORRELATION.to_be_bytes().to_vec();
        body.extend(0_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        body.extend(9_i16.to_be_bytes());
        body.extend(b"127.0.0.1");
        body.extend(20_001_i32.to_be_bytes());
        body.extend((-1_i16).to_be_bytes());
        body.extend(3_i16.to_be_bytes());
        body.extend(b"abc");
        body.extend(1_i32.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body
    }

    #[test]
    fn an_answer_names_cluster_and_brokers() {
        let expected = ClusterView {
            cluster_id: "abc".into(),
            broker_ports: vec![20_001],
            has_controller: true,
        };
        assert_eq!(parse(&answer()), Some(expected));
    }

    #[test]
    fn an_answer_cut_anywhere_is_refused() {
        let whole = answer();
        let read = whole.len() - 4; // the empty list of topics is not read
        for length in 0..read {
            assert_eq!(parse(&whole[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn the_request_states_its_own_length() {
        let request = request();
        let stated = i32::from_be_bytes(request[..4].try_into().expect("four bytes"));
        assert_eq!(stated as usize, request.len() - 4);
    }
}
