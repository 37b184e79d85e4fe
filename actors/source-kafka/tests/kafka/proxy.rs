//! A broker in between that misbehaves: it passes frames on, and does harm to
//! some of the answers.

use std::collections::HashMap;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::protocol::Decodable as _;
use kafka_protocol::protocol::Encodable as _;
use kafka_protocol::protocol::StrBytes;

/// The key of a fetch request, and of one for metadata.
pub(crate) const FETCH: i16 = 1;
pub(crate) const METADATA: i16 = 3;

/// What is done to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    None,
    /// The connection ends instead of it.
    Cut,
    /// The connection ends in the middle of it.
    Half,
    /// It comes in small pieces.
    Dribble,
    /// It comes late.
    Late,
    /// Its size is right, its content is not.
    Garbage,
    /// A frame of this size is announced.
    Size(u32),
    /// It answers another request.
    Number,
    /// It never comes, and the connection stays.
    Silence,
}

type Plan = dyn Fn(i16, usize) -> Harm + Send + Sync;

/// Stands in front of a broker. Its threads end with their connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// `plan` decides by the request's key and the number of the answer among those of its kind.
    pub(crate) fn start(
        upstream: &str,
        plan: impl Fn(i16, usize) -> Harm + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            upstream: upstream.split(',').next().expect("a broker").to_owned(),
            address,
            plan: Box::new(plan),
            answers: Mutex::default(),
            harmed: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            starved: AtomicUsize::new(0),
        });
        let proxy = Self {
            address,
            shared: Arc::clone(&shared),
        };
        // It listens until the test process ends.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || shared.serve(number, client));
            }
        });
        proxy
    }

    /// From now on the connections that there are get no record any more: their fetches are
    /// answered, with where the log ends, and empty. Those that come later get everything.
    pub(crate) fn starve_present(&self) {
        let present = self.shared.connections.load(Ordering::Relaxed);
        self.shared.starved.store(present, Ordering::Relaxed);
    }

    pub(crate) fn brokers(&self) -> String {
        self.address.to_string()
    }

    /// Answers that were done harm to.
    pub(crate) fn harmed(&self) -> usize {
        self.shared.harmed.load(Ordering::Relaxed)
    }
}

struct Shared {
    upstream: String,
    address: SocketAddr,
    plan: Box<Plan>,
    /// Answers so far, by the request's key.
    answers: Mutex<HashMap<i16, usize>>,
    harmed: AtomicUsize,
    /// Connections so far.
    connections: AtomicUsize,
    /// How many of them, the first ones, get no records.
    starved: AtomicUsize,
}

/// Requests on their way: number to key and version.
type Asked = Arc<Mutex<HashMap<i32, (i16, i16)>>>;

impl Shared {
    fn serve(&self, connection: usize, client: TcpStream) {
        let Ok(broker) = TcpStream::connect(&self.upstream) else {
            return;
        };
        let asked = Asked::default();
        let requests = {
            let (asked, client, broker) = (Arc::clone(&asked), &client, &broker);
            let (client, broker) = (client.try_clone(), broker.try_clone());
            thread::spawn(move || {
                let (Ok(mut client), Ok(mut broker)) = (client, broker) else {
                    return;
                };
                while let Ok(frame) = read_frame(&mut client) {
                    note(&asked, &frame);
                    if write_frame(&mut broker, &frame).is_err() {
                        break;
                    }
                }
                let _ = broker.shutdown(Shutdown::Both);
            })
        };
        let mut ends = (broker, client);
        while let Ok(frame) = read_frame(&mut ends.0) {
            if self
                .pass_on(connection, &mut ends.1, frame, &asked)
                .is_err()
            {
                break;
            }
        }
        let _ = ends.0.shutdown(Shutdown::Both);
        let _ = ends.1.shutdown(Shutdown::Both);
        let _ = requests.join();
    }

    fn pass_on(
        &self,
        connection: usize,
        client: &mut TcpStream,
        frame: Vec<u8>,
        asked: &Asked,
    ) -> io::Result<()> {
        let number = int32(&frame, 0);
        let (key, version) = asked
            .lock()
            .expect("no thread panics with it")
            .remove(&number)
            .unwrap_or((-1, 0));
        let frame = match key {
            METADATA => self.readdress(&frame, version),
            FETCH if connection < self.starved.load(Ordering::Relaxed) => emptied(&frame, version),
            _ => frame,
        };
        let harm = (self.plan)(key, self.count(key));
        if harm != Harm::None {
            self.harmed.fetch_add(1, Ordering::Relaxed);
        }
        harmed_write(client, frame, harm)
    }

    /// The number of this answer among those of its kind, counted from 0.
    fn count(&self, key: i16) -> usize {
        let mut answers = self.answers.lock().expect("no thread panics with it");
        let count = answers.entry(key).or_default();
        *count += 1;
        *count - 1
    }

    /// Names this proxy as the address of every broker.
    fn readdress(&self, frame: &[u8], version: i16) -> Vec<u8> {
        let head = if version >= 9 { 5 } else { 4 };
        let mut body = Bytes::copy_from_slice(&frame[head..]);
        let mut metadata = MetadataResponse::decode(&mut body, version).expect("metadata");
        for broker in &mut metadata.brokers {
            broker.host = StrBytes::from_string(self.address.ip().to_string());
            broker.port = i32::from(self.address.port());
        }
        let mut out = BytesMut::from(&frame[..head]);
        metadata.encode(&mut out, version).expect("metadata");
        out.to_vec()
    }
}

/// The answer to a fetch without its records.
fn emptied(frame: &[u8], version: i16) -> Vec<u8> {
    let head = if version >= 12 { 5 } else { 4 };
    let mut body = Bytes::copy_from_slice(&frame[head..]);
    let mut fetched = FetchResponse::decode(&mut body, version).expect("a fetch");
    for topic in &mut fetched.responses {
        for partition in &mut topic.partitions {
            partition.records = Some(Bytes::new());
        }
    }
    let mut out = BytesMut::from(&frame[..head]);
    fetched.encode(&mut out, version).expect("a fetch");
    out.to_vec()
}

fn harmed_write(client: &mut TcpStream, mut frame: Vec<u8>, harm: Harm) -> io::Result<()> {
    let cut = || io::Error::other("cut on purpose");
    match harm {
        Harm::None => write_frame(client, &frame),
        Harm::Cut => Err(cut()),
        Harm::Half => {
            client.write_all(&(frame.len() as u32).to_be_bytes())?;
            client.write_all(&frame[..frame.len() / 2])?;
            Err(cut())
        }
        Harm::Dribble => {
            let mut whole = (frame.len() as u32).to_be_bytes().to_vec();
            whole.extend(frame);
            whole.chunks(1 + whole.len() / 20).try_for_each(|piece| {
                // sleep: the pieces are to arrive one by one
                thread::sleep(Duration::from_millis(3));
                client.write_all(piece)
            })
        }
        Harm::Late => {
            // sleep: being late is the harm
            thread::sleep(Duration::from_millis(150));
            write_frame(client, &frame)
        }
        Harm::Garbage => {
            for (at, byte) in frame.iter_mut().enumerate().skip(4) {
                *byte = (at as u8).wrapping_mul(167) ^ 0xa5;
            }
            write_frame(client, &frame)
        }
        Harm::Size(size) => {
            client.write_all(&size.to_be_bytes())?;
            client.write_all(&frame)
        }
        Harm::Number => {
            frame[3] ^= 0x40;
            write_frame(client, &frame)
        }
        Harm::Silence => Ok(()),
    }
}

fn note(asked: &Asked, frame: &[u8]) {
    let (key, version) = (int16(frame, 0), int16(frame, 2));
    let mut asked = asked.lock().expect("no thread panics with it");
    asked.insert(int32(frame, 4), (key, version));
}

fn int16(frame: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([frame[at], frame[at + 1]])
}

fn int32(frame: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"))
}

fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    from.read_exact(&mut size)?;
    let mut frame = vec![0; u32::from_be_bytes(size) as usize];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(to: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let mut whole = (frame.len() as u32).to_be_bytes().to_vec();
    whole.extend(frame);
    to.write_all(&whole)
}
