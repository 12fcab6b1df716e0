//! Counting alerts where they are raised: in the log.

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// Counts every log line that has an `alert` field. To be given a filter of its own, so that what the log leaves
/// out is counted too; alerts are errors or warnings.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountAlerts;

impl<S: Subscriber> Layer<S> for CountAlerts {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().fields().field("alert").is_some() {
            event.record(&mut Count);
        }
    }
}

struct Count;

impl Visit for Count {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "alert" {
            // A literal in the code: the compiler keeps no list, so neither does this.
            ::metrics::counter!("checkoutd_alerts_total", "alert" => value.to_owned()).increment(1);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
