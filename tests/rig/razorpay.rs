//! What goes wrong at Razorpay, by seed.

use std::{sync::Arc, time::Duration};

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op, RefundStatus, WebhookFaults};
use tokio::time::sleep;

use crate::{dice::Dice, world::World};

/// Razorpay's double takes all its faults at once, so one loop sets those of the API and of the webhooks.
pub struct Razorpay {
    pub api: bool,
    pub webhooks: bool,
    pub api_dice: Dice,
    pub webhook_dice: Dice,
}

impl Razorpay {
    pub async fn run(mut self, world: Arc<World>) {
        let mut webhooks = WebhookFaults::default();
        let (mut weather_left, mut faults_left) = (0, 0);
        loop {
            if self.webhooks && weather_left == 0 {
                webhooks = self.webhook_weather(&world);
                weather_left = 4 + self.webhook_dice.below(20);
            }
            let mut faults = Faults { webhooks: webhooks.clone(), ..Faults::default() };
            if self.api {
                self.api_faults(&world, &mut faults);
                faults_left = 1 + self.api_dice.below(3);
            }
            {
                // Whoever pays and needs a webhook waits for this.
                let mut on = world.webhooks_on.write().await;
                world.sandbox.set_faults(faults);
                *on = webhooks.enabled;
            }
            let pause = faults_left.max(1);
            sleep(Duration::from_millis(150 * pause)).await;
            weather_left = weather_left.saturating_sub(pause);
        }
    }

    fn webhook_weather(&mut self, world: &World) -> WebhookFaults {
        let dice = &mut self.webhook_dice;
        let fine = WebhookFaults::default();
        let (name, weather) = match dice.below(10) {
            0..=3 => ("fine", fine),
            4 => (
                "delayed",
                WebhookFaults { delay_ms: 100 + i64::try_from(dice.below(4_000)).unwrap_or(0), ..fine },
            ),
            5 => ("doubled", WebhookFaults { duplicate: true, ..fine }),
            6 => ("reordered", WebhookFaults { delay_ms: 300, reorder: true, ..fine }),
            7 => {
                let delay_ms = 100 + i64::try_from(dice.below(2_000)).unwrap_or(0);
                (
                    "doubled, reordered and delayed",
                    WebhookFaults { delay_ms, duplicate: true, reorder: true, ..fine },
                )
            }
            _ => ("lost", WebhookFaults { enabled: false, ..fine }),
        };
        world.tally.count(format!("webhooks for a while: {name}"));
        weather
    }

    /// A handful of calls that go wrong.
    fn api_faults(&mut self, world: &World, faults: &mut Faults) {
        let dice = &mut self.api_dice;
        for _ in 0..dice.below(4) {
            let (op, kind) = api_fault(dice);
            world.tally.count(format!("Razorpay {op:?}: {}", name_of(&kind)));
            faults.rules.push(FaultRule::times(u32::try_from(1 + dice.below(2)).unwrap_or(1), op, kind));
        }
        if dice.percent(15) {
            faults.list_lag_ms = i64::try_from(500 + dice.below(4_000)).unwrap_or(0);
            world.tally.count("Razorpay: list lags");
        }
        match dice.below(20) {
            0..6 => {
                faults.refund_outcome = RefundStatus::Pending;
                world.tally.count("Razorpay: refunds take their time");
            }
            6..8 => {
                faults.refund_outcome = RefundStatus::Failed;
                world.tally.count("Razorpay: refunds fail");
            }
            _ => {}
        }
    }
}

const OPS: [(u64, Op); 8] = [
    (10, Op::CreateLink),
    (3, Op::FetchLink),
    (3, Op::ListLinks),
    (5, Op::CancelLink),
    (3, Op::FetchPayment),
    (1, Op::OrderPayments),
    (4, Op::Refund),
    (1, Op::FetchRefund),
];

fn api_fault(dice: &mut Dice) -> (Op, FaultKind) {
    let op = dice.weighted(&OPS);
    let status = |code, retry_after| FaultKind::Status { code, body: None, retry_after };
    let kind = match dice.below(20) {
        0..=3 => FaultKind::TimeoutAfter,
        4..=7 => FaultKind::ResetAfter,
        8..=9 => FaultKind::Malformed,
        10 => FaultKind::TimeoutBefore,
        11..=12 => status(429, dice.percent(50).then_some(1)),
        13 => status(500, None),
        14 => status(502, None),
        15..=16 => status(503, None),
        // A link that is not what was asked for; of a payment that would be a lie nobody can see through.
        17 if op == Op::CreateLink => FaultKind::OtherAmount,
        _ => FaultKind::DelayMs { delay_ms: 50 + dice.below(2_500) },
    };
    (op, kind)
}

fn name_of(kind: &FaultKind) -> String {
    match kind {
        FaultKind::Status { code, .. } => format!("answers {code}"),
        FaultKind::DelayMs { .. } => "late".to_owned(),
        other => format!("{other:?}"),
    }
}
