//! Figures for Prometheus: counters that this process keeps, and gauges that Postgres is asked for.
//!
//! Whoever has something to count calls `metrics::counter!` with a name of [`COUNTERS`]. Labels are words from our own
//! code: no ids, no tenants, nothing from outside.

mod alerts;
pub mod api;
mod gauges;
mod store;

use std::sync::OnceLock;

use ::metrics::Unit;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::sync::Mutex;

pub use alerts::CountAlerts;
use gauges::Read;

/// Every counter, with what it counts.
pub const COUNTERS: [(&str, &str); 8] = [
    ("checkoutd_alerts_total", "Log lines that a person must act on, by their alert field"),
    ("checkoutd_webhooks_received_total", "Requests to Razorpay's webhook URL, by what they came to"),
    (
        "checkoutd_requests_limited_total",
        "Requests answered 429, by whose budget was spent (key, address), or 503 (overload)",
    ),
    ("checkoutd_facts_total", "Facts about sessions, by decision and by how they were learnt"),
    ("checkoutd_sessions_ended_total", "Sessions that ended, by status and by how it was learnt"),
    ("checkoutd_refunds_total", "Changes of refunds, by outcome"),
    ("checkoutd_deliveries_total", "Attempts to deliver events to merchants, by outcome"),
    ("checkoutd_provider_calls_total", "Tries to call Razorpay, by kind of call and outcome"),
];

/// What `GET /metrics` shows.
pub struct Metrics {
    counters: PrometheusHandle,
    gauges: Mutex<Option<Read>>,
}

impl Metrics {
    /// Makes this process count, once; later calls share the first one's counters.
    pub fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Refused only if something else counts already; then these counters stay empty.
            if ::metrics::set_global_recorder(recorder).is_ok() {
                describe();
            }
            handle
        });
        Self { counters: handle.clone(), gauges: Mutex::default() }
    }

    /// Counters of their own, which count where the recorder is made the local one. For tests, of which many share
    /// a process.
    pub fn detached() -> (Self, PrometheusRecorder) {
        let recorder = PrometheusBuilder::new().build_recorder();
        (Self { counters: recorder.handle(), gauges: Mutex::default() }, recorder)
    }
}

fn describe() {
    for (name, text) in COUNTERS {
        ::metrics::describe_counter!(name, Unit::Count, text);
    }
}
