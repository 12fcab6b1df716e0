//! The payment page, as a browser without scripts would use it.

use super::*;
use crate::sandbox::charge::callback_signature;

const CARD: [(&str, &str); 4] =
    [("method", "card"), ("card_number", "4100 2800 0000 1007"), ("expiry", "12/30"), ("cvv", "123")];

async fn submit(rig: &Rig, link: &Value, form: &[(&str, &str)]) -> Response {
    let url = format!("{}/pay", link["short_url"].as_str().unwrap());
    let body = serde_urlencoded::to_string(form).unwrap();
    let request = rig.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
    request.send().await.unwrap()
}

async fn show(rig: &Rig, url: &str) -> String {
    rig.http.get(url).send().await.unwrap().text().await.unwrap()
}

fn location(response: &Response) -> String {
    assert_eq!(response.status(), 303);
    response.headers()["location"].to_str().unwrap().to_owned()
}

#[test]
fn the_callback_signature_matches_the_published_test_vector() {
    let signature = callback_signature(
        "EnLs21M47BllR3X8PSFtjtbd",
        "plink_IH3cNucfVEgV68",
        "TSsd1989",
        "paid",
        "pay_IH3d0ara9bSsjQ",
    );
    assert_eq!(signature, "07ae18789e35093e51d0a491eb9922646f3f82773547e5b0f67ee3f2d3bf7d5b");
}

#[tokio::test]
async fn a_payer_pays_by_card_and_is_sent_back_with_a_signature() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    let page = rig.http.get(link["short_url"].as_str().unwrap()).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("form-action"), "{policy}");
    let html = page.text().await.unwrap();
    for expected in ["Sandbox", "Pro, monthly", "₹499.00", "REF-1", "Cancel this link"] {
        assert!(html.contains(expected), "{expected} is not on the page");
    }
    let target = location(&submit(&rig, &link, &CARD).await);
    let payment = rig.sandbox.ledger().payments[0].clone();
    let id = link["id"].as_str().unwrap();
    let signature = callback_signature(KEY_SECRET, id, "REF-1", "paid", &payment.id);
    assert_eq!(
        target,
        format!(
            "http://127.0.0.1:9/return?from=pay&razorpay_payment_id={}&razorpay_payment_link_id={id}\
             &razorpay_payment_link_reference_id=REF-1&razorpay_payment_link_status=paid&razorpay_signature={signature}",
            payment.id
        )
    );
    assert_eq!(payment.status, PaymentStatus::Captured);
    let html = show(&rig, link["short_url"].as_str().unwrap()).await;
    assert!(html.contains("Paid.") && !html.contains("<form"));
    // Paying again, from a page left open, changes nothing.
    assert!(location(&submit(&rig, &link, &CARD).await).starts_with("/l/"));
    assert_eq!(rig.sandbox.ledger().payments.len(), 1);
}

#[tokio::test]
async fn without_a_callback_the_payer_ends_on_a_page_that_says_paid() {
    let rig = Rig::start().await;
    let (_, link) = rig.post("/v1/payment_links", json!({"amount": 500, "currency": "JPY"})).await;
    let target = location(&submit(&rig, &link, &[("method", "upi"), ("vpa", "success@razorpay")]).await);
    let html = show(&rig, &rig.url(&target)).await;
    assert!(html.contains("Paid.") && html.contains("JPY 500<"));
    assert_eq!(
        rig.sandbox.ledger().payments[0].instrument,
        Instrument::Upi { vpa: "success@razorpay".to_owned() }
    );
}

#[tokio::test]
async fn a_failed_payment_stays_on_the_page_with_its_reason_and_can_be_retried() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    let with = |name: &'static str, value: &'static str| {
        let mut form = CARD.to_vec();
        form.retain(|(key, _)| *key != name);
        form.push((name, value));
        form
    };
    let attempts = [
        (with("card_number", "4100280000080001"), "insufficient_fund"),
        (with("card_number", "4100 2800 0009 0000"), "payment_timed_out"),
        (with("card_number", "4111-1111-1111-1111"), "international_transaction_not_allowed"),
        (with("outcome", "fail"), "payment_failed"),
        (with("outcome", "give_up"), "payment_cancelled"),
        (vec![("method", "upi"), ("vpa", "failure@razorpay")], "payment_failed"),
    ];
    let count = attempts.len();
    for (form, reason) in attempts {
        let html = show(&rig, &rig.url(&location(&submit(&rig, &link, &form).await))).await;
        assert!(html.contains("did not go through") && html.contains(reason), "{reason}");
        assert!(html.contains("Pay ₹499.00"), "can be retried after {reason}");
        // The form that was used is the one that is open.
        let open = &html[html.find("<details name=\"method\" open>").unwrap()..];
        let (card, upi) = (open.find("<h2>Card"), open.find("<h2>UPI"));
        assert_eq!(card.is_none() && upi.is_some(), form[0].1 == "upi", "{reason}");
    }
    let ledger = rig.sandbox.ledger();
    assert_eq!(ledger.payments.iter().filter(|p| p.status == PaymentStatus::Failed).count(), count);
    assert_eq!((ledger.links[0].status, ledger.orders.len()), (LinkStatus::Created, 1));
    assert!(location(&submit(&rig, &link, &CARD).await).starts_with("http://127.0.0.1:9/return?"));
}

#[tokio::test]
async fn input_that_is_no_test_card_is_refused_and_not_recorded() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    for (name, value, text) in [
        ("card_number", "4242 4242 4242 4242", "not one of the test cards"),
        ("expiry", "12/26", "has expired"),
        ("expiry", "1330", "month and a year"),
        ("cvv", "12", "three or four digits"),
    ] {
        let form = CARD.map(|(key, old)| (key, if key == name { value } else { old }));
        let response = submit(&rig, &link, &form).await;
        assert_eq!(response.status(), 422);
        assert!(response.text().await.unwrap().contains(text), "{text}");
    }
    let response = submit(&rig, &link, &[("method", "upi"), ("vpa", "nobody")]).await;
    assert_eq!(response.status(), 422);
    let ledger = rig.sandbox.ledger();
    assert!(ledger.payments.is_empty() && ledger.orders.is_empty());
}

#[tokio::test]
async fn the_merchants_buttons_cancel_and_expire_and_the_page_says_so() {
    let rig = Rig::start().await;
    for (button, text) in [("cancel", "Cancelled."), ("expire", "Expired.")] {
        let link = rig.link(button).await;
        let short_url = link["short_url"].as_str().unwrap();
        let response = rig.http.post(format!("{short_url}/{button}")).send().await.unwrap();
        assert_eq!(rig.url(&location(&response)), short_url);
        let html = show(&rig, short_url).await;
        assert!(html.contains(text) && !html.contains("<form"), "{text}");
    }
    let missing = rig.http.get(rig.url("/l/nothere1")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn what_a_merchant_sends_is_shown_as_text_never_as_html() {
    let rig = Rig::start().await;
    let body = json!({"amount": 100, "description": "<script>alert(1)</script>", "reference_id": "\"><b>"});
    let (_, link) = rig.post("/v1/payment_links", body).await;
    for url in [link["short_url"].as_str().unwrap(), &rig.url("/")] {
        let html = show(&rig, url).await;
        assert!(!html.contains("<script") && !html.contains("<b>"), "{url}");
    }
}

#[tokio::test]
async fn the_dashboard_lists_links_payments_refunds_and_webhooks() {
    let rig = Rig::start().await;
    let payment_id = rig.paid("REF-1").await;
    let (_, refund) = rig.post(&format!("/v1/payments/{payment_id}/refund"), json!({})).await;
    rig.sandbox.flush_webhooks().await;
    let html = show(&rig, &rig.url("/")).await;
    let ledger = rig.sandbox.ledger();
    let refund_id = refund["id"].as_str().unwrap();
    for expected in
        [&ledger.links[0].id, &payment_id, refund_id, &ledger.deliveries[0].event_id, "payment_link.paid"]
    {
        assert!(html.contains(expected), "{expected} is not on the dashboard");
    }
}
