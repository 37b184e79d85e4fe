//! Who asks a reader.

use std::time::Duration;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use tokio::runtime::Handle;

use crate::stage::Server;

const P0: Partition = Partition(0);

/// A projector's threads drive futures that read. What a runtime grants to one poll of a future
/// is used up by a few hundred reads inside of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_a_thread_drives_reads_as_often_as_it_likes() {
    let table = Server::fresh("driven").await.table(1).await;
    let client = table.server.client().await;
    for mode in [ReadMode::Bulk, ReadMode::Tail] {
        let from = table.source.watermarks(P0).await.expect("the ends").high;
        let reader = table.source.open(P0, from, mode).await;
        let mut reader = reader.expect("it opens");
        let runtime = Handle::current();
        let (ask, asked) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            runtime.block_on(async move {
                let limit = ReadLimit {
                    records: 10,
                    bytes: 1_000,
                };
                let mut chunk = Chunk::new(P0, Offset(0));
                for read in 0.. {
                    let done = reader.read(&mut chunk, limit, Duration::from_millis(2));
                    done.expect("the server answers");
                    if read == 300 {
                        ask.send(()).expect("somebody waits");
                    }
                    assert!(read < 10_000, "nothing came");
                    if !chunk.is_empty() {
                        return read;
                    }
                }
                0
            })
        });
        let asked = tokio::task::spawn_blocking(move || asked.recv()).await;
        asked.expect("no panic").expect("the reader reads");
        let record = refold_ports::conformance::log::NewRecord::new("key", "value").at(1);
        table.write(&client, P0, &[record]).await;
        let reads = tokio::task::spawn_blocking(move || reading.join()).await;
        let reads = reads.expect("no panic").expect("the thread does not panic");
        assert!(reads > 300, "{mode:?}: {reads} reads");
    }
}
