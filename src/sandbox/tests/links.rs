//! `/v1/payment_links`: authentication, validation, uniqueness, reads, states.

use super::*;

#[tokio::test]
async fn calls_without_the_right_credentials_are_refused() {
    let rig = Rig::start().await;
    let call = async |authorization: Option<&str>| {
        let request = rig.http.get(rig.url("/v1/payment_links"));
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        let (status, body) = read(request.send().await.unwrap()).await;
        (status, body["error"]["description"].as_str().map(str::to_owned), body["error"]["reason"].clone())
    };
    let missing = "Please provide your api key for authentication purposes".to_owned();
    assert_eq!(call(None).await, (401, Some(missing), json!("NA")));
    // rzp_test_one:secret_one, then with another secret, another key, another scheme, no base64
    let right = "cnpwX3Rlc3Rfb25lOnNlY3JldF9vbmU=";
    assert_eq!(call(Some(&format!("Basic {right}"))).await.0, 200);
    for wrong in [
        "Basic cnpwX3Rlc3Rfb25lOnNlY3JldF90d28=",
        "Basic cnpwX3Rlc3RfdHdvOnNlY3JldF9vbmU=",
        &format!("basic {right}"),
        &format!("BASIC {right}"),
        &format!("Bearer {right}"),
        "Basic !!!",
        "Basic",
    ] {
        assert_eq!(
            call(Some(wrong)).await,
            (401, Some("Authentication failed".to_owned()), json!("NA")),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_link_is_created_with_status_200_and_all_the_keys_seen_live() {
    let rig = Rig::start().await;
    let body = json!({"amount": 29_900, "reference_id": "REF-1"});
    let request =
        rig.http.post(rig.url("/v1/payment_links/")).basic_auth(KEY_ID, Some(KEY_SECRET)).json(&body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let text = response.text().await.unwrap();
    let link: Value = serde_json::from_str(&text).unwrap();
    let (id, short_url) = (link["id"].as_str().unwrap(), link["short_url"].as_str().unwrap());
    assert!(short_url.starts_with(&rig.url("/l/")));
    let escaped = short_url.replace('/', "\\/");
    // The recording of the live API, with this link's own values in it.
    let expected = format!(
        r#"{{"accept_partial":false,"allow_full_payment":false,"amount":29900,"amount_paid":0,"cancelled_at":0,"created_at":{START},"currency":"INR","customer":[],"description":"","expire_by":0,"expired_at":0,"first_min_partial_amount":0,"id":"{id}","notes":null,"notify":{{"email":false,"sms":false,"whatsapp":false}},"payment_plan":false,"payments":null,"reference_id":"REF-1","reminder_enable":false,"reminders":[],"short_url":"{escaped}","status":"created","updated_at":{START},"upi_link":false,"user_id":"","whatsapp_link":false}}"#
    );
    assert_eq!(text, expected);
    assert!(id.starts_with("plink_") && id.len() == 20 && id[6..].bytes().all(|b| b.is_ascii_alphanumeric()));
}

#[tokio::test]
async fn everything_razorpay_refuses_is_refused_with_its_text() {
    let rig = Rig::start().await;
    let notes = |count: usize, length: usize| -> Value {
        (0..count)
            .map(|n| (format!("key_{n}"), json!("x".repeat(length))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let callback = "https://example.com/back";
    let cases = [
        (json!({}), "amount: cannot be blank."),
        (json!({"amount": 0}), "amount: cannot be blank."),
        (json!({"amount": null}), "amount: cannot be blank."),
        (json!({"amount": 22.34}), "amount, should be a whole number for e.g. 2234"),
        (json!({"amount": "2234"}), "incorrect JSON object received - faulty key: amount."),
        (json!({"amount": 99}), "amount: amount should be minimum 1.00 for INR."),
        (
            json!({"amount": -500}),
            "amount: amount should be minimum 1.00 for INR; first_min_partial_amount: 0 must be less than or equal to -500.",
        ),
        (json!({"amount": 50_000_001}), "amount exceeds maximum amount allowed."),
        (json!({"amount": u64::MAX}), "amount exceeds maximum amount allowed."),
        (
            json!({"amount": 100, "currency": "inr"}),
            "amount: currency: wrong input field, please find the list of supported currencies on the documentation.",
        ),
        (
            json!({"amount": 100, "currency": "XXQ"}),
            "amount: currency: wrong input field, please find the list of supported currencies on the documentation.",
        ),
        (
            json!({"amount": 500, "accept_partial": true, "first_min_partial_amount": 600}),
            "first_min_partial_amount: 600 must be less than or equal to 500.",
        ),
        (
            json!({"amount": 500, "first_min_partial_amount": 200}),
            "first_min_partial_amount: amount should be minimum 100 for INR.",
        ),
        (
            json!({"amount": 100, "description": "x".repeat(2049)}),
            "description: the length must be no more than 2048.",
        ),
        (
            json!({"amount": 100, "reference_id": "x".repeat(41)}),
            "reference_id: the length must be no more than 40.",
        ),
        (json!({"amount": 100, "customer": {"email": "jane"}}), "email: must be in a valid format."),
        (
            json!({"amount": 100, "customer": {"contact": "1234567"}}),
            "contact: the length must be between 8 and 14.",
        ),
        (
            json!({"amount": 100, "customer": "jane"}),
            "incorrect JSON object received - faulty key: customer.",
        ),
        (
            json!({"amount": 100, "expire_by": START + 899}),
            "expire_by: timestamp must be atleast 15 minutes in future.",
        ),
        (
            json!({"amount": 100, "expire_by": START + 185 * 86_400}),
            "expire_by: timestamp must be at most 6 months in future.",
        ),
        (
            json!({"amount": 100, "expire_by": "soon"}),
            "incorrect JSON object received - faulty key: expire_by.",
        ),
        (
            json!({"amount": 100, "notify": {"sms": 1}}),
            "incorrect JSON object received - faulty key: notify.sms.",
        ),
        (json!({"amount": 100, "notes": notes(16, 1)}), "notes: the length must be no more than 15."),
        (json!({"amount": 100, "notes": notes(1, 256)}), "value: the length must not be greater than 255."),
        (
            json!({"amount": 100, "notes": {"a": {"b": 1}}}),
            "incorrect JSON object received - faulty key: notes.",
        ),
        (
            json!({"amount": 100, "callback_url": "example.com", "callback_method": "get"}),
            "callback_url: URL should be sent in callback_url field.",
        ),
        (
            json!({"amount": 100, "callback_url": callback, "callback_method": "post"}),
            "callback_method: must be a valid value.",
        ),
        (json!({"amount": 100, "callback_url": callback}), "callback_method: must be a valid value."),
        (
            json!({"amount": 100, "upi_link": true}),
            "UPI Payment Links is not supported in Test Mode. Please experience the product in Live Mode.",
        ),
        (json!({"amount": 100, "colour": "red"}), "extra fields sent."),
        (
            json!({"amount": 99, "reference_id": "x".repeat(41)}),
            "amount: amount should be minimum 1.00 for INR; reference_id: the length must be no more than 40.",
        ),
        (json!([]), "incorrect JSON object received - faulty key: ."),
    ];
    for (body, expected) in cases {
        let answer = rig.post("/v1/payment_links", body.clone()).await;
        assert_eq!(answer.1["error"]["metadata"], json!([]), "{body}");
        assert_eq!(answer.1["error"]["step"], Value::Null, "{body}");
        assert_eq!(description(answer), expected, "{body}");
    }
    assert_eq!(description(rig.post("/v1/payment_links", Value::Null).await), "amount: cannot be blank.");
    assert!(rig.sandbox.ledger().links.is_empty());
}

#[tokio::test]
async fn the_limits_themselves_are_accepted() {
    let rig = Rig::start().await;
    for body in [
        json!({"amount": 100}),
        json!({"amount": 50_000_000, "reference_id": "x".repeat(40), "description": "x".repeat(2048)}),
        json!({"amount": 1, "currency": "JPY"}),
        json!({"amount": 100, "expire_by": START + 900}),
        json!({"amount": 100, "expire_by": START + 180 * 86_400}),
        json!({"amount": 100, "notes": {"k": "x".repeat(255)}, "customer": [], "options": {"checkout": {}}}),
        json!({"amount": 500, "accept_partial": true, "first_min_partial_amount": 500, "notes": []}),
    ] {
        assert_eq!(rig.post("/v1/payment_links", body.clone()).await.0, 200, "{body}");
    }
}

#[tokio::test]
async fn a_reference_id_is_taken_for_good_but_only_within_its_business() {
    let rig = Rig::start().await;
    rig.link("REF-1").await;
    let again = async || rig.post("/v1/payment_links", json!({"amount": 100, "reference_id": "REF-1"})).await;
    let taken = "payment link with given reference_id: REF-1 already exists. Please create a payment link with a different reference_id";
    assert_eq!(description(again().await), taken);
    rig.sandbox.cancel("REF-1").unwrap();
    assert_eq!(description(again().await), taken);
    rig.sandbox.put_account(Account::new("rzp_test_two", "secret_two")).unwrap();
    let other = rig.http.post(rig.url("/v1/payment_links")).basic_auth("rzp_test_two", Some("secret_two"));
    let other = other.json(&json!({"amount": 100, "reference_id": "REF-1"})).send().await.unwrap();
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn links_are_read_by_id_and_listed_by_reference() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    rig.link("REF-2").await;
    let id = link["id"].as_str().unwrap();
    let (status, fetched) = rig.get(&format!("/v1/payment_links/{id}")).await;
    assert_eq!((status, &fetched["payments"], &fetched["reference_id"]), (200, &json!([]), &json!("REF-1")));
    assert_eq!(fetched.get("order_id"), None);

    let (_, all) = rig.get("/v1/payment_links").await;
    let references: Vec<&Value> =
        all["payment_links"].as_array().unwrap().iter().map(|l| &l["reference_id"]).collect();
    assert_eq!(references, ["REF-2", "REF-1"]);
    let (_, one) = rig.get("/v1/payment_links/?reference_id=REF-1").await;
    assert_eq!(one["payment_links"][0]["id"], id);
    assert_eq!(one["payment_links"].as_array().unwrap().len(), 1);
    assert_eq!(rig.get("/v1/payment_links?reference_id=NONE").await.1, json!({"payment_links": []}));
    let (_, page) = rig.get("/v1/payment_links?count=1&skip=1").await;
    assert_eq!(page["payment_links"][0]["reference_id"], "REF-1");
    let long = format!("/v1/payment_links?reference_id={}", "x".repeat(41));
    assert_eq!(description(rig.get(&long).await), "The receipt may not be greater than 40 characters.");
}

#[tokio::test]
async fn a_paid_link_shows_its_captured_payments_by_id_only() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    let id = link["id"].as_str().unwrap();
    let failed = PayRequest { outcome: PayOutcome::Failure, ..PayRequest::default() };
    let failed = rig.sandbox.pay("REF-1", failed).unwrap();
    assert_eq!((failed.payment_status, failed.link_status), (PaymentStatus::Failed, LinkStatus::Created));
    let paid = rig.sandbox.pay(id, PayRequest::default()).unwrap();
    let (_, fetched) = rig.get(&format!("/v1/payment_links/{id}")).await;
    assert_eq!(fetched["status"], "paid");
    assert_eq!(fetched["amount_paid"], 49_900);
    assert_eq!(fetched["order_id"], paid.order_id);
    assert_eq!(
        fetched["payments"],
        json!([{"amount": 49_900, "created_at": START, "method": "card", "payment_id": paid.payment_id, "status": "captured"}])
    );
    let (_, listed) = rig.get(&format!("/v1/payment_links?payment_id={}", paid.payment_id)).await;
    assert_eq!(
        (&listed["payment_links"][0]["id"], &listed["payment_links"][0]["payments"]),
        (&json!(id), &json!([]))
    );

    let (_, attempts) = rig.get(&format!("/v1/orders/{}/payments", paid.order_id)).await;
    assert_eq!((&attempts["entity"], &attempts["count"]), (&json!("collection"), &json!(2)));
    assert_eq!(
        (&attempts["items"][0]["status"], &attempts["items"][1]["status"]),
        (&json!("captured"), &json!("failed"))
    );
    let (_, payment) = rig.get(&format!("/v1/payments/{}", paid.payment_id)).await;
    assert_eq!(
        (&payment["notes"]["session_id"], &payment["contact"]),
        (&json!("REF-1"), &json!("+919000090001"))
    );
    assert_eq!(payment["description"], format!("#{}", &id[6..]));
}

#[tokio::test]
async fn only_a_created_link_can_be_cancelled() {
    let rig = Rig::start().await;
    let cancel = async |link: &Value| {
        rig.post(&format!("/v1/payment_links/{}/cancel", link["id"].as_str().unwrap()), Value::Null).await
    };
    let created = rig.link("created").await;
    rig.advance(5);
    let (status, cancelled) = cancel(&created).await;
    assert_eq!(
        (status, &cancelled["status"], &cancelled["cancelled_at"]),
        (200, &json!("cancelled"), &json!(START + 5))
    );
    assert_eq!(cancelled["payments"], json!([]));
    assert_eq!(description(cancel(&created).await), "cannot cancel or expire a cancelled link");

    let paid = rig.link("paid").await;
    rig.sandbox.pay("paid", PayRequest::default()).unwrap();
    let already_paid = "cannot cancel or expire an already paid / partially paid link";
    assert_eq!(description(cancel(&paid).await), already_paid);

    let expired = rig.link("expired").await;
    rig.sandbox.expire("expired").unwrap();
    assert_eq!(description(cancel(&expired).await), "cannot cancel or expire an expired link");

    let partial = rig.post("/v1/payment_links", json!({"amount": 500, "accept_partial": true})).await.1;
    let instalment = PayRequest { amount: Some(200), ..PayRequest::default() };
    let info = rig.sandbox.pay(partial["id"].as_str().unwrap(), instalment).unwrap();
    assert_eq!(info.link_status, LinkStatus::PartiallyPaid);
    assert_eq!(description(cancel(&partial).await), already_paid);
}

#[tokio::test]
async fn a_link_expires_at_its_deadline_and_cannot_be_paid_after() {
    let rig = Rig::start().await;
    let (_, link) = rig
        .post("/v1/payment_links", json!({"amount": 100, "expire_by": START + 900, "reference_id": "R"}))
        .await;
    let path = format!("/v1/payment_links/{}", link["id"].as_str().unwrap());
    rig.advance(899);
    assert_eq!(rig.get(&path).await.1["status"], "created");
    rig.advance(1);
    let (_, expired) = rig.get(&path).await;
    assert_eq!((&expired["status"], &expired["expired_at"]), (&json!("expired"), &json!(START + 900)));
    assert_eq!(expired["updated_at"], START);
    let refused = rig.sandbox.pay("R", PayRequest::default());
    assert!(matches!(refused, Err(SandboxError::NotPayable { status: LinkStatus::Expired, .. })));
    assert_eq!(rig.sandbox.flush_webhooks().await, 1);
    assert_eq!(rig.receiver.events(), ["payment_link.expired"]);
}

#[tokio::test]
async fn unknown_foreign_and_malformed_ids_are_told_apart_as_razorpay_does() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    let payment = rig.sandbox.pay("REF-1", PayRequest::default()).unwrap();
    rig.sandbox.put_account(Account::new("rzp_test_two", "secret_two")).unwrap();
    let unknown = "The id provided does not exist";
    for (path, expected) in [
        ("/v1/payment_links/plink_00000000000000", unknown),
        ("/v1/payment_links/plink_short", "invalid input [strippedId] = [short]"),
        ("/v1/payments/pay_00000000000000", unknown),
        ("/v1/payments/nonsense", "nonsense is not a valid id"),
        ("/v1/refunds/rfnd_00000000000000", unknown),
        ("/v1/refunds/nonsense", "nonsense is not a valid id"),
        ("/v1/orders/order_00000000000000/payments", unknown),
        ("/v1/nothing", "The requested URL was not found on the server."),
    ] {
        assert_eq!(description(rig.get(path).await), expected, "{path}");
    }
    let not_found = "The requested URL was not found on the server.";
    assert_eq!(description(rig.call(Method::DELETE, "/v1/payment_links", &Value::Null).await), not_found);
    let id = link["id"].as_str().unwrap();
    for path in [
        format!("/v1/payment_links/{id}"),
        format!("/v1/payments/{}", payment.payment_id),
        format!("/v1/orders/{}/payments", payment.order_id),
    ] {
        let foreign = rig.http.get(rig.url(&path)).basic_auth("rzp_test_two", Some("secret_two"));
        assert_eq!(description(read(foreign.send().await.unwrap()).await), unknown, "{path}");
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids_and_another_seed_others() {
    let id_with_seed = async |seed| {
        let rig = Rig::start_with(|config| config.seed = seed).await;
        rig.link("REF-1").await["id"].clone()
    };
    let first = id_with_seed(1).await;
    assert_eq!(first, id_with_seed(1).await);
    assert_ne!(first, id_with_seed(2).await);
}

#[tokio::test]
async fn two_keys_of_one_business_see_the_same_links() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    let account_id = rig.sandbox.ledger().links[0].account_id.clone();
    let body = json!({"key_id": "rzp_test_new", "key_secret": "new", "account_id": account_id});
    assert_eq!(rig.control(Method::PUT, "/accounts", body).await, (200, json!({"account_id": account_id})));
    let path = rig.url(&format!("/v1/payment_links/{}", link["id"].as_str().unwrap()));
    let fetched = rig.http.get(path).basic_auth("rzp_test_new", Some("new")).send().await.unwrap();
    assert_eq!(fetched.status(), 200);
}
