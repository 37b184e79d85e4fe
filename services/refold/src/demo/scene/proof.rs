//! The comparisons and the switch.

use std::sync::Arc;
use std::time::Duration;

use refold_domain::fold::AnyProjection;

use super::Scene;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::command::cutover::Order;
use crate::command::verify;
use crate::demo::figures::Comparison;
use crate::demo::figures::Cutover;
use crate::run::find;

impl Scene {
    /// Compares two versions at one offset per partition, the tail moving, and lets the log
    /// confirm what differs as expected.
    pub(in crate::demo) async fn verify_against(
        &mut self,
        version: &str,
        against: &str,
    ) -> Result<Comparison, Failure> {
        let (left, right) = (self.projection(version)?, self.projection(against)?);
        let (session, args) = (self.session()?, &self.args);
        let (log, pair) = (self.log(), (&left, &right));
        let compared = verify::with_version(&session, &log, pair, &args.stream, args.format);
        let comparison = compared.await?;
        self.tell(&format!("{version} against {against}"), &comparison);
        if let Some(log) = &comparison.log {
            self.note(&log.tell());
        }
        Ok(comparison)
    }

    /// Compares a version with the oracle at one offset per partition, the tail moving.
    pub(in crate::demo) async fn verify_expected(
        &mut self,
        version: &str,
    ) -> Result<Comparison, Failure> {
        let (projection, session) = (self.projection(version)?, self.session()?);
        let (stream, format) = (&self.args.stream, self.args.format);
        let compared = verify::with_oracle(&session, &projection, stream, format);
        let comparison = compared.await?;
        self.tell(
            &format!("{version} against the known final state"),
            &comparison,
        );
        Ok(comparison)
    }

    fn projection(&self, label: &str) -> Result<Arc<dyn AnyProjection>, Failure> {
        find(&self.projections, label)
    }

    fn tell(&self, what: &str, found: &Comparison) {
        self.note(&format!(
            "{what}: {} rows, {} differences",
            Count(found.rows),
            found.differences
        ));
    }

    /// Promotes a version through the api, on the ground of a scan that is young enough
    /// where one is asked for.
    pub(in crate::demo) async fn cutover(
        &mut self,
        version: &str,
        max_scan_age: Option<Duration>,
    ) -> Result<Cutover, Failure> {
        let order = Order {
            version,
            dry_run: false,
            if_generation: None,
            max_scan_age,
            force: None,
        };
        let answer = order.ask(&self.api).await?;
        if answer.status != 200 {
            return Err(Failure::new(
                Kind::Refused,
                format!("the promotion was refused: {}", answer.problem()),
            ));
        }
        let offsets = answer.body["offsets"].as_object();
        let offsets = offsets
            .into_iter()
            .flatten()
            .filter_map(|(partition, offset)| Some((partition.parse().ok()?, offset.as_i64()?)));
        Ok(Cutover {
            generation: answer.body["generation"].as_i64().unwrap_or_default(),
            flip_ms: answer.body["flip_ms"].as_f64().unwrap_or(f64::NAN),
            offsets: offsets.collect(),
        })
    }
}
