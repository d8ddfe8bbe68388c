//! Formats the counters as OpenMetrics text, with prometheus-client.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::cells::{Counter, CounterKey, Snapshot, BOUNDS};
use super::Gauges;

/// The values of one scrape.
#[derive(Debug)]
struct MetricsCollector {
    /// Requests by route, method and status.
    requests: BTreeMap<(String, &'static str, u16), u64>,
    durations: BTreeMap<(String, &'static str), Durations>,
    counters: BTreeMap<Counter, u64>,
    drains: Durations,
    gauges: Gauges,
    version: String,
}

#[derive(Clone, Debug)]
struct Durations {
    seconds: f64,
    buckets: Vec<u64>,
}

impl Default for Durations {
    fn default() -> Self {
        Durations {
            seconds: 0.0,
            buckets: vec![0; BOUNDS.len() + 1],
        }
    }
}

impl Durations {
    fn add(&mut self, values: &[u64]) {
        self.seconds += seconds(values.first().copied().unwrap_or(0));
        for (sum, value) in self.buckets.iter_mut().zip(values.iter().skip(1)) {
            *sum += value;
        }
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn bounded(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
        bounds.zip(self.buckets.iter().copied()).collect()
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a sum of 285 years is exact to the microsecond"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

pub(super) fn render(snapshot: &Snapshot, gauges: &Gauges, version: &str) -> String {
    let mut collector = MetricsCollector {
        requests: BTreeMap::new(),
        durations: BTreeMap::new(),
        counters: BTreeMap::new(),
        drains: Durations::default(),
        gauges: gauges.clone(),
        version: version.to_owned(),
    };
    for (key, values) in snapshot {
        match key {
            CounterKey::Requests {
                route,
                method,
                status,
            } => {
                let count: u64 = values.iter().skip(1).sum();
                *collector
                    .requests
                    .entry((route.to_string(), method, *status))
                    .or_default() += count;
                collector
                    .durations
                    .entry((route.to_string(), method))
                    .or_default()
                    .add(values);
            }
            CounterKey::Counter(counter) => {
                collector
                    .counters
                    .insert(*counter, values.first().copied().unwrap_or(0));
            }
            CounterKey::Drains => collector.drains.add(values),
        }
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    // a write to a String never fails
    let _ = encode(&mut text, &registry);
    text
}

impl Collector for MetricsCollector {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut to)?;
        self.counters(&mut to)?;
        self.outcomes(&mut to)?;
        let help = "Duration of the drain of a process";
        let mut metric = to.encode_descriptor(
            "slackwater_drain_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let Durations { seconds, .. } = self.drains;
        metric.encode_histogram::<NoLabelSet>(
            seconds,
            self.drains.count(),
            &self.drains.bounded(),
            None,
        )?;
        self.gauges(&mut to)
    }
}

impl MetricsCollector {
    fn requests(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests with a response, by route template, method and status";
        let mut metric = to.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        for ((route, method, status), count) in &self.requests {
            let status = status.to_string();
            let labels = [
                ("route", route.as_str()),
                ("method", method),
                ("status", &status),
            ];
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let help = "Time from the end of the request head to the last byte of the response";
        let mut metric = to.encode_descriptor(
            "http_request_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for ((route, method), durations) in &self.durations {
            let labels = [("route", route.as_str()), ("method", method)];
            let (seconds, count, buckets) =
                (durations.seconds, durations.count(), durations.bounded());
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
        }
        Ok(())
    }

    fn counters(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let families = [
            (
                "http_request_body",
                Some(Unit::Bytes),
                "Bytes of request bodies that were received",
                Counter::Received,
            ),
            (
                "http_response_body",
                Some(Unit::Bytes),
                "Bytes of response bodies that were sent",
                Counter::Sent,
            ),
            (
                "slackwater_connections_accepted",
                None,
                "Connections that were accepted",
                Counter::Accepted,
            ),
            (
                "slackwater_connections_handed_over",
                None,
                "Connections received from the previous process in an upgrade",
                Counter::Taken,
            ),
        ];
        for (name, unit, help, counter) in families {
            let mut metric =
                to.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&self.value(counter), None)?;
        }
        Ok(())
    }

    fn outcomes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let families = [
            (
                "slackwater_reloads",
                "Reloads by outcome",
                [
                    ("done", Counter::ReloadsDone),
                    ("refused", Counter::ReloadsRefused),
                ],
            ),
            (
                "slackwater_upgrades",
                "Upgrades by outcome",
                [
                    ("done", Counter::UpgradesDone),
                    ("failed", Counter::UpgradesFailed),
                ],
            ),
        ];
        for (name, help, outcomes) in families {
            let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (outcome, counter) in outcomes {
                let labels = [("outcome", outcome)];
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&self.value(counter), None)?;
            }
        }
        Ok(())
    }

    fn gauges(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connections by state";
        let mut metric =
            to.encode_descriptor("slackwater_connections", help, None, MetricType::Gauge)?;
        for (state, count) in self.gauges.connections.by_state {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metric
                .encode_family(&[("state", state)])?
                .encode_gauge(&count)?;
        }
        let help = "Bytes held for clients: unsent responses, heads, bodies and messages; http.memory limits them";
        let held = i64::try_from(self.gauges.connections.held).unwrap_or(i64::MAX);
        to.encode_descriptor(
            "slackwater_held",
            help,
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?
        .encode_gauge(&held)?;
        let help =
            "Generation of the application: 1 at the start of a process, increased by each reload";
        let generation = i64::try_from(self.gauges.generation).unwrap_or(i64::MAX);
        to.encode_descriptor("slackwater_generation", help, None, MetricType::Gauge)?
            .encode_gauge(&generation)?;
        let mut metric = to.encode_descriptor(
            "slackwater_build",
            "Versions of the application and of slackwater",
            None,
            MetricType::Info,
        )?;
        metric.encode_info(&[
            ("version", self.version.as_str()),
            ("slackwater", env!("CARGO_PKG_VERSION")),
        ])
    }

    fn value(&self, counter: Counter) -> u64 {
        self.counters.get(&counter).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::ConnectionGauges;
    use std::time::Duration;

    use crate::observe::metrics::Metrics;

    #[test]
    fn the_text_has_the_openmetrics_format() {
        let metrics = Metrics::new("1.2.3");
        let mut meter = metrics.meter("GET", "/greet/:name".into());
        meter.set_status(200);
        meter.add_bytes(13);
        drop(meter);
        metrics.count(Counter::UpgradesDone);
        metrics.drained(Duration::from_millis(300));
        let connections = ConnectionGauges {
            by_state: [("active", 1), ("idle", 2), ("parked", 3), ("tunnel", 0)],
            held: 5,
        };
        let text = metrics.text(&Gauges {
            generation: 4,
            connections,
        });
        for line in [
            "# TYPE http_requests counter",
            r#"http_requests_total{route="/greet/:name",method="GET",status="200"} 1"#,
            r#"http_request_duration_seconds_bucket{le="+Inf",route="/greet/:name",method="GET"} 1"#,
            "http_response_body_bytes_total 13",
            r#"slackwater_upgrades_total{outcome="done"} 1"#,
            r#"slackwater_drain_duration_seconds_bucket{le="0.5"} 1"#,
            "slackwater_drain_duration_seconds_sum 0.3",
            r#"slackwater_connections{state="parked"} 3"#,
            "slackwater_generation 4",
            "slackwater_held_bytes 5",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in:\n{text}"
            );
        }
        assert!(
            text.contains(r#"slackwater_build_info{version="1.2.3""#),
            "{text}"
        );
    }
}
