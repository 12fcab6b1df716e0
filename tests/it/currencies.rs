//! What a customer is asked for, in every currency: the sum of the prices to the minor unit, or a 400 that says why not.

use checkoutd::kit::money::Currency;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

/// Every code of ISO 4217 that the service takes, in lower case.
fn every_currency() -> Vec<String> {
    let letters = || 'a'..='z';
    let pairs = letters().flat_map(|first| letters().map(move |second| [first, second]));
    pairs
        .flat_map(|[first, second]| letters().map(move |third| String::from_iter([first, second, third])))
        .filter(|code| code.parse::<Currency>().is_ok())
        .collect()
}

/// Decimal places by the tables of ISO 4217.
fn places(currency: &str) -> usize {
    match currency {
        "bif" | "clp" | "djf" | "gnf" | "isk" | "jpy" | "kmf" | "krw" | "pyg" | "rwf" | "ugx" | "vnd"
        | "vuv" | "xaf" | "xof" | "xpf" => 0,
        "bhd" | "iqd" | "jod" | "kwd" | "lyd" | "omr" | "tnd" => 3,
        _ => 2,
    }
}

/// The decimal text of so many minor units, with `zeros` that say nothing.
fn decimal(minor: u64, places: usize, zeros: &str) -> String {
    let digits = format!("{minor:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    if places + zeros.len() == 0 { whole.to_owned() } else { format!("{whole}.{fraction}{zeros}") }
}

/// Amounts that repeat from run to run, a minor unit up to some millions.
struct Amounts(u64);

impl Amounts {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What one plan costs in one currency: two prices, and the minor units that they come to.
struct Offer {
    currency: String,
    prices: [Value; 2],
    total_minor: u64,
}

fn offer(currency: String, amounts: &mut Amounts) -> Offer {
    let places = places(&currency);
    // At least one unit of INR's smallest payable amount.
    let (unit, quantity) = (100 + amounts.next(3_000_000), 1 + amounts.next(40));
    let (first, rest, flat) = (amounts.next(500_000), amounts.next(500_000), amounts.next(1000));
    let units = 1 + amounts.next(25);
    let text = |minor, zeros| decimal(minor, places, zeros);
    let flat_fee = json!({"currency": currency, "amount": text(unit, "0"), "min_quantity": quantity});
    let tiers = json!([
        {"up_to": 10, "unit_amount": text(first, "")},
        {"up_to": null, "unit_amount": text(rest, "00"), "flat_amount": text(flat, "")},
    ]);
    let tiered = json!({
        "currency": currency, "billing_model": "TIERED", "tier_mode": "SLAB", "tiers": tiers, "min_quantity": units,
        "amount": null,
    });
    let above = units.saturating_sub(10);
    let total_minor =
        unit * quantity + first * (units - above) + rest * above + if above > 0 { flat } else { 0 };
    Offer { currency, prices: [flat_fee, tiered], total_minor }
}

async fn ask(merchant: &Merchant, plan: &str, currency: &str) -> crate::support::Reply {
    let mut request = Merchant::session_request(plan);
    request["configuration"]["create_subscription_params"]["currency"] = json!(currency);
    merchant.post("/v1/checkout/sessions", request).await
}

#[tokio::test]
async fn razorpay_is_asked_for_the_exact_sum_in_every_currency_and_paid_it_completes() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.customer("user_12345").await;
    let plan = merchant.post("/v1/plans", json!({"name": "Pro"})).await.expect(201);
    let plan = plan["id"].as_str().unwrap();
    let mut amounts = Amounts(7);
    let offers: Vec<_> = every_currency().into_iter().map(|currency| offer(currency, &mut amounts)).collect();
    assert!(offers.len() > 150, "{}", offers.len());
    let (mut paid, mut asked, mut refused) = (Vec::new(), 0, 0);
    for some in offers.chunks(8) {
        let prices = some.iter().flat_map(|offer| &offer.prices);
        join_all(prices.map(|price| merchant.add_price(plan, price.clone()))).await;
        let replies = join_all(some.iter().map(|offer| ask(&merchant, plan, &offer.currency))).await;
        for (offer, reply) in some.iter().zip(replies) {
            let Offer { currency, total_minor, .. } = offer;
            if places(currency) == 3 && total_minor % 10 != 0 {
                // Razorpay takes two of three decimal places.
                let error = reply.expect_error(400, "validation_error");
                assert_eq!(error["details"]["reason"], "amount_not_payable", "{currency}");
                refused += 1;
                continue;
            }
            let session = reply.expect(201);
            let link = app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().clone();
            assert_eq!(u64::try_from(link.terms.amount).unwrap(), *total_minor, "{currency}");
            assert!(link.terms.currency.eq_ignore_ascii_case(currency), "{currency}");
            asked += 1;
            // The unusual ones, and some of the others: paying takes the time of the whole test.
            if places(currency) != 2 || asked % 12 == 0 {
                app.pay(&session);
                paid.push((session, offer));
            }
        }
    }
    assert!(asked > 140 && refused > 0 && paid.len() > 25, "{asked} {refused} {}", paid.len());
    app.sandbox.flush_webhooks().await;
    for some in paid.chunks(8) {
        let invoices = some.iter().map(|(session, _)| async {
            assert_eq!(merchant.read_session(session).await["checkout_status"], "completed");
            let id = session["checkout_invoice_id"].as_str().unwrap();
            merchant.get(&format!("/v1/invoices/{id}")).await.expect(200)
        });
        for ((_, offer), invoice) in some.iter().zip(join_all(invoices).await) {
            let shown = decimal(offer.total_minor, places(&offer.currency), "");
            let shown =
                if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.') } else { &shown };
            assert_eq!(invoice["amount_paid"], shown, "{}", offer.currency);
            assert_eq!(invoice["currency"], offer.currency.as_str());
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn an_amount_with_more_decimal_places_than_its_currency_is_refused_in_every_one() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let plan = merchant.post("/v1/plans", json!({"name": "Pro"})).await.expect(201);
    let before = app.row_counts().await;
    for some in every_currency().chunks(16) {
        let replies = some.iter().map(|currency| {
            let amount = decimal(1, places(currency) + 1, "0");
            let price = json!({
                "entity_type": "PLAN", "entity_id": plan["id"], "type": "FIXED", "billing_model": "FLAT_FEE",
                "billing_period": "MONTHLY", "billing_period_count": 1, "currency": currency, "amount": amount,
                "invoice_cadence": "ADVANCE", "price_unit_type": "FIAT",
            });
            merchant.post("/v1/prices", price)
        });
        for (currency, reply) in some.iter().zip(join_all(replies).await) {
            let error = reply.expect_error(400, "validation_error");
            assert!(error["details"]["amount"].is_string(), "{currency}: {error}");
        }
    }
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}
