//! What Prometheus scrapes: `campanile run --metrics ADDR`, `campanile controller --metrics ADDR`.
//!
//! Figures are read from the store at each scrape, so that every process of a home tells the same, and none is lost with
//! a process. The text is OpenMetrics 1.0.

use std::fmt;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    clock::Clock,
    store::{self, Store, feedback::Came, files::Arrived, history::Standing},
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `GET /metrics`.
pub fn app(store: Store, clock: Clock) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state((store, clock))
}

async fn scrape(State((store, clock)): State<(Store, Clock)>) -> Response {
    match page(&store, clock).await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the metrics cannot be read");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn page(store: &Store, clock: Clock) -> store::Result<String> {
    let mut registry = Registry::with_prefix("campanile");
    registry.register_collector(Box::new(IngestLatency(store.arrivals().await?)));
    registry.register_collector(Box::new(Feedback(store.came_back().await?)));
    let exports = store.exports(None).await?;
    let now = clock.now();
    let lag = |of: &Standing| of.waits_since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0));
    registry.register_collector(Box::new(Exports(exports.into_iter().map(|of| (lag(&of), of)).collect())));
    let mut page = String::new();
    text::encode(&mut page, &registry).map_err(|e| store::Error::Internal(e.to_string()))?;
    Ok(page)
}

/// From a file's appearance until its rows can be used by a rule, for each entity.
#[derive(Debug)]
struct IngestLatency(Vec<Arrived>);

impl Collector for IngestLatency {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "From a file's appearance until a rule can use its rows";
        let mut metric =
            encoder.encode_descriptor("ingest_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for Arrived { namespace, dataset, entity, buckets, files, sum_s } in &self.0 {
            let labels = [("namespace", &**namespace), ("dataset", &**dataset), ("entity", &**entity)];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(*sum_s, *files, buckets, None)?;
        }
        Ok(())
    }
}

/// What came back: who told it, what it told, and why it was not taken.
#[derive(Debug)]
struct Feedback(Vec<(Came, i64)>);

impl Collector for Feedback {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "What came back about messages; reason: why nobody knows which one";
        let mut metric = encoder.encode_descriptor("feedback", help, None, MetricType::Counter)?;
        for (Came { source, told, reason }, n) in &self.0 {
            let labels = [("source", &**source), ("told", &**told), ("reason", &**reason)];
            let n = u64::try_from(*n).unwrap_or(0);
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&n, None)?;
        }
        Ok(())
    }
}

/// What the history's exports have told, and how long the oldest of what they have not waits.
#[derive(Debug)]
struct Exports(Vec<(f64, Standing)>);

impl Collector for Exports {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let labels = |of: &Standing| {
            [("namespace", of.namespace.clone()), ("dataset", of.dataset.clone()), ("export", of.name.clone())]
        };
        let help = "How long the oldest of what an export of the history has not told waits";
        let mut lag = encoder.encode_descriptor("history_export_lag", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (seconds, of) in &self.0 {
            lag.encode_family(&labels(of))?.encode_gauge(seconds)?;
        }
        let help = "Lines of the history that an export has told, those told again among them";
        let mut told = encoder.encode_descriptor("history_export_lines", help, None, MetricType::Counter)?;
        for (_, of) in &self.0 {
            let n = u64::try_from(of.told).unwrap_or(0);
            told.encode_family(&labels(of))?.encode_counter::<NoLabelSet, _, u64>(&n, None)?;
        }
        Ok(())
    }
}
