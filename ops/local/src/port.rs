//! Finding free ports.

use std::net::TcpListener;

use crate::machine;
use crate::{Error, Result};

/// What a port is for. Each purpose has its own range: when a broker and a controller of two
/// clusters meet on one port, the loser dies while the port still answers for the winner.
///
/// All ranges lie below the kernel's ephemeral range (32768..), so that no outgoing connection
/// can take a server's port while the server is down for a restart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Broker,
    Controller,
    Postgres,
    Prometheus,
    Pooler,
}

impl Purpose {
    /// First port and number of ports.
    const fn range(self) -> (u16, u16) {
        match self {
            Self::Broker => (20_000, 4_000),
            Self::Controller => (24_000, 4_000),
            Self::Postgres => (28_000, 2_000),
            Self::Prometheus => (30_000, 2_000),
            Self::Pooler => (18_000, 2_000),
        }
    }
}

/// `count` different ports that were free a moment ago.
pub(crate) fn free(purpose: Purpose, count: usize) -> Result<Vec<u16>> {
    let (first, size) = purpose.range();
    let start = machine::random_u64()?;
    let mut held = Vec::with_capacity(count);
    for step in 0..u64::from(size) {
        let shift = (start.wrapping_add(step)) % u64::from(size);
        let port = first + u16::try_from(shift).unwrap_or(0);
        // Kept bound until all are found: the same port cannot be handed out twice.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    Err(Error::new(format!(
        "no {count} free ports on 127.0.0.1 in {first}..{}",
        u32::from(first) + u32::from(size)
    )))
}

/// Whether `port` on loopback can be bound now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_inside_their_range() {
        let mut ports = free(Purpose::Broker, 5).expect("five free ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
        assert!(ports.iter().all(|p| (20_000..24_000).contains(p)));
    }

    #[test]
    fn a_bound_port_is_not_free() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert!(!is_free(port));
    }
}
