//! `checkoutd tenant keys`: how the operator takes keys away, and gives one to whoever lost all.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Command, ENCRYPTION_KEY, Merchant, Settings, TestApp};

const USED: &str = "/v1/users/me";

/// Runs `checkoutd tenant keys …`: the exit code, what it printed, and what it complained about.
async fn keys(app: &TestApp, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["tenant", "keys"], arguments].concat();
    let variables = [("DATABASE_URL", &*app.database_url), ("CHECKOUTD_ENCRYPTION_KEY", ENCRYPTION_KEY)];
    let ended = Command::start(&std::env::temp_dir(), &arguments, &variables).until_end().await;
    (ended.code, ended.lines.join("\n"), ended.stderr)
}

async fn json(app: &TestApp, arguments: &[&str]) -> Value {
    let (code, printed, complaint) = keys(app, &[arguments, &["--json"]].concat()).await;
    assert_eq!(code, Some(0), "{complaint}");
    serde_json::from_str(&printed).unwrap()
}

async fn started() -> TestApp {
    TestApp::start_with(Settings { behind: Some(chrono::TimeDelta::zero()), ..Settings::default() }).await
}

#[tokio::test]
async fn the_operator_finds_and_revokes_what_a_leaked_key_left_behind() {
    let app = started().await;
    let (leaked, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    let made = json!({"name": "Foot\u{7}hold", "type": "development"});
    let made = leaked.post("/v1/environments", made).await.expect(201);
    let foothold = Merchant { api_key: made["api_key"].as_str().unwrap().to_owned(), ..leaked.clone() };
    app.add_canary(&foothold.api_key);
    let list = json(&app, &["list", "--tenant", &leaked.tenant_id]).await;
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    let found = items.iter().find(|item| item["environment_id"] == made["id"]).unwrap();
    for (field, value) in [
        ("name", json!("default")),
        ("environment_name", json!("Foot\u{7}hold")),
        ("mode", json!("test")),
        ("status", json!("valid")),
        ("expires_at", json!(null)),
        ("revoked_at", json!(null)),
    ] {
        assert_eq!(found[field], value, "{field}");
    }
    let (start, end) = (&foothold.api_key[..13], &foothold.api_key[48..]);
    assert_eq!(found["display_id"], format!("{start}***{end}").as_str());
    let id = found["id"].as_str().unwrap();
    assert_eq!(json(&app, &["revoke", id]).await, json!({"id": id, "revoked": true}));
    foothold.get(USED).await.expect_error(401, "unauthorized");
    assert_eq!(json(&app, &["revoke", id]).await, json!({"id": id, "revoked": false}));
    let (code, printed, _) = keys(&app, &["revoke", id]).await;
    assert_eq!((code, printed.contains("already")), (Some(0), true), "{printed}");
    let (code, printed, _) = keys(&app, &["list", "--tenant", &leaked.tenant_id]).await;
    assert_eq!(code, Some(0));
    assert!(printed.contains(&format!("{id} revoked ")) && printed.ends_with("3 key(s)"), "{printed}");
    assert!(!printed.contains('\u{7}') && !printed.contains(&foothold.api_key), "{printed}");
    for untouched in [&leaked, &live, &stranger] {
        untouched.get(USED).await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_tenant_who_lost_every_key_gets_one_from_the_operator() {
    let app = started().await;
    let (merchant, live) = app.merchant_pair().await;
    for caller in [&merchant, &live] {
        let id = caller.get(USED).await.expect(200)["id"].as_str().unwrap().to_owned();
        let (code, printed, complaint) = keys(&app, &["revoke", &id]).await;
        assert_eq!((code, printed), (Some(0), format!("{id} is revoked")), "{complaint}");
        // By another process: this one remembers the key for two seconds.
        app.clock().advance(TimeDelta::seconds(2));
        caller.get(USED).await.expect_error(401, "unauthorized");
        let environment = &*caller.environment_id;
        let made = json(&app, &["create", "--environment", environment, "--name", "After the leak"]).await;
        let again = Merchant { api_key: made["api_key"].as_str().unwrap().to_owned(), ..caller.clone() };
        app.add_canary(&again.api_key);
        assert_eq!(again.api_key[..8], caller.api_key[..8]);
        let me = again.get(USED).await.expect(200);
        assert_eq!((&me["id"], &me["name"]), (&made["id"], &json!("After the leak")));
        assert_eq!((&made["environment_id"], &made["mode"]), (&json!(environment), &me["mode"]));
        let (code, printed, complaint) = keys(&app, &["create", "--environment", environment]).await;
        assert_eq!(code, Some(0), "{complaint}");
        let text = printed.split_whitespace().last().unwrap().to_owned();
        app.add_canary(&text);
        let me = Merchant { api_key: text, ..caller.clone() }.get(USED).await.expect(200);
        assert_eq!(me["name"], "operator");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_and_nothing_is_changed() {
    let app = started().await;
    let (merchant, _) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let unknown = |prefix| checkoutd::kit::ids::encode(prefix, sqlx::types::Uuid::nil());
    let (tenant, key, environment) = (unknown("tenant"), unknown("secret"), unknown("env"));
    let name = "x".repeat(256);
    for (arguments, complaint) in [
        (vec!["list", "--tenant", &*tenant], "there is no tenant"),
        (vec!["revoke", &*key], "there is no key"),
        (vec!["create", "--environment", &*environment], "there is no environment"),
        (vec!["create", "--environment", &*merchant.environment_id, "--name", ""], "--name must have"),
        (vec!["create", "--environment", &*merchant.environment_id, "--name", &name], "--name must have"),
        // A key is named by its record.
        (vec!["revoke", "sk_test_"], "invalid value"),
    ] {
        let (code, printed, said) = keys(&app, &arguments).await;
        assert_ne!(code, Some(0), "{arguments:?}");
        assert!(printed.is_empty() && said.contains(complaint), "{arguments:?}: {printed} {said}");
    }
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}
