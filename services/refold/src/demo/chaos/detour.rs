//! The way from the projectors to broker and database: a proxy for each.

use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::time::Duration;

use refold_chaos::Harm;
use refold_chaos::Kind;
use refold_chaos::Protocol;
use refold_chaos::Proxy;
use refold_local::KafkaExtras;

use crate::cli::Failure;
use crate::cli::Kind as FailureKind;
use crate::demo::scene::Scene;

/// The listener of the broker that names the proxy as its address.
const LISTENER: &str = "PROXIED";

/// A broker that was killed is there again sooner: it reads its last segments again, so short
/// ones; and its controller refuses it until the session of the killed one is over.
const BROKER: [(&str, &str); 3] = [
    ("log.segment.bytes", "33554432"),
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
];

/// What passes at a narrow place, in bytes a second and direction.
const NARROW: u64 = 256 << 10;

/// Longest piece of what comes in pieces, in bytes.
const PIECE: usize = 256;

/// The proxies.
#[derive(Debug)]
pub(super) struct Detour {
    pub(super) kafka: Proxy,
    pub(super) postgres: Proxy,
}

impl Detour {
    /// Listens; the servers need not be there yet.
    pub(super) async fn open() -> Result<Self, Failure> {
        let failed = |error| Failure::error("open a proxy", error);
        Ok(Self {
            kafka: Proxy::listen(Protocol::Bytes).await.map_err(failed)?,
            postgres: Proxy::listen(Protocol::Postgres).await.map_err(failed)?,
        })
    }

    /// What the broker needs: clients go on where its metadata says, so one of its listeners has
    /// to be advertised as the proxy.
    pub(super) fn kafka_extras(&self) -> KafkaExtras {
        let address = self.kafka.address().to_string();
        KafkaExtras {
            listeners: vec![(LISTENER.to_owned(), "PLAINTEXT".to_owned())],
            advertised: vec![(LISTENER.to_owned(), address)],
            settings: BROKER
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..KafkaExtras::default()
        }
    }

    /// Leads the projectors of a scene this way.
    pub(super) fn lead(&self, scene: &mut Scene) -> Result<(), Failure> {
        let missing = || Failure::new(FailureKind::Error, "the private stack has no way around");
        let stack = scene.stack().ok_or_else(missing)?;
        let broker = stack.kafka_listener_port(LISTENER).ok_or_else(missing)?;
        let port = scene.session()?.config.get_ports().first().copied();
        let port = port.ok_or_else(missing)?;
        self.kafka.forward_to(format!("127.0.0.1:{broker}"));
        self.postgres.forward_to(format!("127.0.0.1:{port}"));
        let direct = format!(":{port}/");
        let by_proxy = format!(":{}/", self.postgres.address().port());
        let postgres = scene.postgres().replacen(&direct, &by_proxy, 1);
        if postgres == scene.postgres() {
            return Err(missing());
        }
        scene.take_detour(self.kafka.address().to_string(), postgres);
        Ok(())
    }

    /// The proxy that a kind of fault is about, with the harm that it does; `None` for any other.
    pub(super) fn harm(&self, kind: Kind, dice: u64) -> Option<(&Proxy, Harm)> {
        let none = Harm::default();
        let hole = Harm { hole: true, ..none };
        let late = Harm {
            latency: Duration::from_millis(50 + dice % 201),
            ..none
        };
        let narrow = Harm {
            bytes_per_second: NonZeroU64::new(NARROW),
            ..none
        };
        let pieces = Harm {
            piece: NonZeroUsize::new(PIECE),
            ..none
        };
        match kind {
            Kind::PostgresBlackhole => Some((&self.postgres, hole)),
            Kind::PostgresLatency => Some((&self.postgres, late)),
            Kind::PostgresBandwidth => Some((&self.postgres, narrow)),
            Kind::PostgresSlice => Some((&self.postgres, pieces)),
            Kind::KafkaBlackhole => Some((&self.kafka, hole)),
            Kind::KafkaLatency => Some((&self.kafka, late)),
            Kind::KafkaBandwidth => Some((&self.kafka, narrow)),
            Kind::KafkaSlice => Some((&self.kafka, pieces)),
            _ => None,
        }
    }

    /// Ends all harm.
    pub(super) fn heal(&self) {
        self.kafka.harm(Harm::default());
        self.postgres.harm(Harm::default());
    }
}
