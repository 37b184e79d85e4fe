//! A scene as an experiment's flags describe it.

use std::path::Path;

use serde_json::Value;

use super::Scene;
use super::Staging;
use crate::bench::report::write;
use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::ExperimentArgs;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::StreamArgs;
use crate::run::Projections;

/// The flags of an experiment that plays a scene.
pub(in crate::demo) struct Experiment<'a> {
    pub(in crate::demo) stream: &'a StreamArgs,
    pub(in crate::demo) common: &'a ExperimentArgs,
    pub(in crate::demo) codec: &'a str,
    pub(in crate::demo) tail_rate: Count,
    pub(in crate::demo) read_rate: Count,
}

impl Experiment<'_> {
    /// Opens its scene, of protobuf events and without kills.
    pub(in crate::demo) async fn open(&self, projections: Projections) -> Result<Scene, Failure> {
        let args = DemoArgs {
            stream: self.stream.clone(),
            codec: self.codec.to_owned(),
            format: Format::Proto,
            tail_rate: self.tail_rate,
            read_rate: self.read_rate,
            reads: Count(0),
            kills: 0,
            rate_limit: Count(0),
            stack_dir: self.common.stack_dir.clone(),
            json: true,
            brokers: None,
            postgres: None,
        };
        let staging = Staging {
            wal_level: self.common.wal_level(),
            keep: self.common.keep,
            projector_flags: self.common.engine_flags(),
            tail_flags: self.common.tail_flags(),
            ..Staging::default()
        };
        Scene::open(args, staging, projections).await
    }
}

impl Scene {
    /// Ends an experiment: whatever came of it, everything is stopped; a result is printed and
    /// written to `result.json` in `out`.
    ///
    /// # Errors
    /// That of the experiment, before that of the stop.
    pub(in crate::demo) async fn conclude(
        mut self,
        outcome: Result<Value, Failure>,
        out: &Path,
    ) -> Result<Value, Failure> {
        let closed = self.close().await;
        let result = outcome?;
        closed?;
        write(&out.join("result.json"), &format!("{result:#}\n"))?;
        println!("{result}");
        Ok(result)
    }
}
