//! Where events may not go: refused when an endpoint is registered, refused again when it is sent to, and
//! never dialled in between.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use checkoutd::{
    db,
    tenancy::{self, Mode},
    webhooks::{self, Egress, EventType, SendError},
};
use chrono::TimeDelta;
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::{Binary, Merchant, Receiver, Settings, TestApp};

const URL: &str = "https://hooks.example.com/checkout";

/// Hosts that are not on the public internet, in every notation that some parser takes.
const FORBIDDEN_HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "017700000001",
    "0",
    "127.0.0.1.",
    "１２７.0.0.1",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "198.18.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[64:ff9b::]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[ff02::1]",
    "localhost",
    "localhost.",
    "LocalHost",
    "hooks.localhost",
    "ｌｏｃａｌｈｏｓｔ",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "loc%61lhost",
];

/// URLs that are refused for what they are, in test environments too.
const MALFORMED: &[&str] = &[
    "",
    "/hook",
    "hooks.example.com/hook",
    "//hooks.example.com/hook",
    "https:hooks.example.com",
    "https:/hooks.example.com",
    "https://",
    "https:///hooks.example.com/",
    "https:///user:secret@hooks.example.com/",
    "https://:443/",
    "ftp://hooks.example.com/",
    "javascript://hooks.example.com/%0aalert(1)",
    "http://hooks.example.com/",
    "https://user@hooks.example.com/",
    "https://user:secret@hooks.example.com/",
    "https://@hooks.example.com/",
    "https://hooks.example.com@127.0.0.1/",
    "https://hooks.example.com:secret@127.0.0.1/",
    "https://hooks.example.com/#part",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:65536/",
    "https://hooks.example.com:-1/",
    "https://hooks.example.com:https/",
    "https://hooks.example.com:０４４３/",
    "https://hooks.exam\tple.com/",
    "https://hooks.example.com/\r\nx: y",
    " https://hooks.example.com/",
    "https:\\\\hooks.example.com\\",
    "https://127.0.0.1\\@hooks.example.com/",
    "https://local\u{200b}host/",
    "https://hooks\u{ad}.example.com/",
    "https://\u{202e}moc.elpmaxe/",
    "https://hooks.example.com/\u{feff}",
    "https://xn--localhost-/",
    "https://xn--/",
    "https://256.1.1.1/",
    "https://1.2.3.4.5/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
    "https://[127.0.0.1]/",
    "https://hooks example.com/",
    "https://hooks<example.com/",
];

/// Ports that live environments do not send to.
const OTHER_PORTS: &[&str] = &["22", "25", "80", "5432", "8080", "9000", "65535"];

/// Listens on every address of this machine; nobody may connect.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn was_dialled(&self) -> bool {
        self.0.accept().is_ok()
    }
}

async fn with_private_targets(allowed: &'static str) -> TestApp {
    let variables = vec![("CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS", allowed)];
    TestApp::start_with(Settings { variables, ..Settings::default() }).await
}

/// What the API says of the URL, the same for a new endpoint and for a change of one.
async fn refusal(merchant: &Merchant, endpoint: &Value, url: &str) -> String {
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let [created, changed] = [
        merchant.post("/v1/webhook_endpoints", json!({"url": url})).await,
        merchant.put(&path, json!({"url": url})).await,
    ]
    .map(|reply| {
        let error = reply.expect_error(400, "validation_error");
        let fields: Vec<_> = error["details"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["url"], "{url:?}: {error}");
        error["message"].as_str().unwrap().to_owned()
    });
    assert_eq!(created, changed, "{url:?}");
    created
}

#[tokio::test]
async fn a_url_that_may_not_be_a_target_is_refused_with_the_field() {
    for allowed in ["false", "true"] {
        let app = with_private_targets(allowed).await;
        let (test, live) = app.merchant_pair().await;
        // Where the operator allows private targets, the live environment is as strict as ever.
        let merchants = if allowed == "true" { vec![&live] } else { vec![&test, &live] };
        for merchant in merchants {
            let endpoint = merchant.post("/v1/webhook_endpoints", json!({"url": URL})).await.expect(201);
            for host in FORBIDDEN_HOSTS {
                for rest in ["/", ":8443/hook?a=b"] {
                    let text = refusal(merchant, &endpoint, &format!("https://{host}{rest}")).await;
                    assert!(text.contains("a host on the public internet"), "{host}: {text}");
                }
            }
            for url in MALFORMED {
                refusal(merchant, &endpoint, url).await;
            }
            let long = format!("{:a<2048}", "https://hooks.example.com/");
            refusal(merchant, &endpoint, &format!("{long}a")).await;
            merchant.post("/v1/webhook_endpoints", json!({"url": long})).await.expect(201);
        }
        for port in OTHER_PORTS {
            let url = format!("https://hooks.example.com:{port}/");
            let error = live.post("/v1/webhook_endpoints", json!({"url": url})).await;
            let error = error.expect_error(400, "validation_error");
            assert!(error["message"].as_str().unwrap().contains("port 443 or 8443"), "{error}");
        }
        app.finish().await;
    }
}

/// Emits an event to every endpoint of the merchant.
async fn emit(app: &TestApp, merchant: &Merchant) {
    let state = app.state();
    let scope = tenancy::Scope {
        tenant: merchant.tenant_id.parse().unwrap(),
        environment: merchant.environment_id.parse().unwrap(),
    };
    let (id, subject) = (state.ids.next(), state.ids.uuid());
    let object = json!({"id": "chk_1"});
    let kind = EventType::CheckoutSessionCompleted;
    let event =
        webhooks::freeze(id, kind, subject, 1, state.clock.now(), "checkout_session", &object).unwrap();
    let ids = webhooks::delivery_ids(&state.ids);
    db::transact(&state.pool, "emit", move |tx| {
        let (event, ids) = (event.clone(), ids.clone());
        Box::pin(async move { webhooks::emit_in(tx, scope, &event, &ids).await })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_url_that_was_taken_once_is_vetted_again_when_it_is_sent_to() {
    let canary = Canary::new();
    for allowed in ["false", "true"] {
        let app = with_private_targets(allowed).await;
        let (test, live) = app.merchant_pair().await;
        let port = canary.port();
        let mut merchants = vec![(&live, 8443)];
        if allowed == "false" {
            merchants.push((&test, port));
        }
        for (merchant, port) in &merchants {
            let mut urls: Vec<_> =
                FORBIDDEN_HOSTS.iter().map(|host| format!("https://{host}:{port}/")).collect();
            urls.extend([
                format!("http://127.0.0.1:{}/", canary.port()),
                format!("https://hooks.example.com@127.0.0.1:{}/", canary.port()),
                format!("https://127.0.0.1:{}\\@hooks.example.com/", canary.port()),
            ]);
            for url in urls {
                let body = json!({"url": URL, "description": url});
                merchant.post("/v1/webhook_endpoints", body).await.expect(201);
            }
            emit(&app, merchant).await;
        }
        // As if they had been registered under other rules, or a database had been restored elsewhere.
        sqlx::query("update webhook_endpoints set url = description")
            .execute(&app.state().pool)
            .await
            .unwrap();
        app.drain().await;
        for (merchant, _) in &merchants {
            let endpoints = merchant.get("/v1/webhook_endpoints").await.expect(200);
            for endpoint in endpoints["items"].as_array().unwrap() {
                let path = format!("/v1/webhook_endpoints/{}/deliveries", endpoint["id"].as_str().unwrap());
                let page = merchant.get(&path).await.expect(200);
                let delivery = &page["items"][0];
                assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("pending"), &json!(1)));
                assert_eq!(delivery["last_response_code"], Value::Null);
                let error = delivery["last_error"].as_str().unwrap();
                assert!(error.starts_with("the URL must"), "{}: {error}", endpoint["url"]);
            }
        }
        app.finish().await;
    }
    assert!(!canary.was_dialled());
}

/// Answers every look-up with the same addresses.
struct Addresses(&'static [&'static str]);

impl webhooks::Lookup for Addresses {
    fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
        let found = self.0.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        Box::pin(async move { Ok(found) })
    }
}

#[tokio::test]
async fn a_name_with_one_forbidden_address_is_not_connected_to() {
    let canary = Canary::new();
    let answers: [&[_]; 3] =
        [&["127.0.0.1"], &["93.184.215.14", "127.0.0.1"], &["127.0.0.1", "93.184.215.14"]];
    for answer in answers {
        let egress = Egress::with_lookup(false, &(Arc::new(Addresses(answer)) as _)).unwrap();
        let url = format!("https://rebound.example:{}/", canary.port());
        let sent = egress.post(egress.rules(Mode::Test), &url, HeaderMap::new(), Vec::new()).await;
        assert_eq!(sent, Err(SendError::ForbiddenAddress), "{answer:?}");
    }
    assert!(!canary.was_dialled());
}

#[tokio::test]
async fn proxies_that_the_environment_names_are_not_used() {
    let canary = Canary::new();
    // A minute behind, so that what is emitted is due for the binary at once.
    let behind = Some(TimeDelta::minutes(1));
    let app = TestApp::start_with(Settings { behind, ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    emit(&app, &merchant).await;
    let proxy = format!("http://127.0.0.1:{}", canary.port());
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let variables = names.map(|name| (name, proxy.as_str())).into_iter().chain([("NO_PROXY", "")]);
    let binary = Binary::start_with(&app, variables).await;
    while receiver.received().is_empty() {
        assert!(!canary.was_dialled());
        tokio::task::yield_now().await;
    }
    binary.terminate();
    assert_eq!(binary.until_end().await, Some(0));
    assert_eq!(receiver.event_types(), ["checkout.session.completed"]);
    assert!(!canary.was_dialled());
    app.finish().await;
}
