//! All of it, in order.

use super::{Finding, INVARIANTS, MOST_OFFENDERS, QUEUES, Rule, Severity, store};
use crate::{app::App, db, tenancy, webhooks};

/// Looks at the installation and at every rule. Changes nothing.
pub async fn examine(app: &App) -> Vec<Finding> {
    let mut findings = vec![database(app).await];
    if findings[0].status != Severity::Ok {
        return findings;
    }
    findings.push(clock(app).await);
    findings.push(secrets(app).await);
    for rule in INVARIANTS.iter().chain(QUEUES) {
        findings.push(judge(app, rule).await);
    }
    findings
}

fn finding(name: &'static str, text: &'static str) -> Finding {
    Finding {
        name,
        text,
        status: Severity::Ok,
        reason: None,
        offenders: Vec::new(),
        more: false,
        unknown: false,
    }
}

fn failed(finding: Finding, reason: impl Into<String>) -> Finding {
    Finding { status: Severity::Fail, reason: Some(reason.into()), ..finding }
}

/// What could not be looked at is not all right.
fn unknown(finding: Finding, error: &db::Error) -> Finding {
    Finding { unknown: true, ..failed(finding, error.to_string()) }
}

async fn database(app: &App) -> Finding {
    let finding = finding("database", "the database answers and has every migration of this version");
    match db::is_ready(&app.pool).await {
        Ok(true) => finding,
        Ok(false) => Finding { unknown: true, ..failed(finding, "run checkoutd migrate") },
        Err(error) => unknown(finding, &error),
    }
}

async fn clock(app: &App) -> Finding {
    let finding = finding("clock", "this machine's clock agrees with the database's within two seconds");
    match db::clock::measure_skew(&app.pool, &app.clock).await {
        Ok(Some(skew)) if skew.abs() > db::clock::MOST_SKEW => {
            let side = if skew > chrono::TimeDelta::zero() { "ahead" } else { "behind" };
            failed(finding, format!("{} ms {side}", skew.num_milliseconds().abs()))
        }
        Ok(_) => finding,
        Err(error) => unknown(finding, &error),
    }
}

/// The encryption key is a copy of the one that sealed them, and no ciphertext was moved or cut.
async fn secrets(app: &App) -> Finding {
    let finding = finding("secrets", "every sealed secret opens with the keys in CHECKOUTD_ENCRYPTION_KEY");
    let found = async {
        let mut found = tenancy::sealed_shut(app).await?;
        found.extend(webhooks::sealed_shut(app).await?);
        Ok::<_, db::Error>(found)
    };
    match found.await {
        Ok(found) if found.is_empty() => finding,
        Ok(mut offenders) => {
            let more = offenders.len() > MOST_OFFENDERS;
            offenders.truncate(MOST_OFFENDERS);
            Finding { status: Severity::Fail, offenders, more, ..finding }
        }
        Err(error) => unknown(finding, &error),
    }
}

async fn judge(app: &App, rule: &Rule) -> Finding {
    let finding = finding(rule.name, rule.text);
    match store::run(&app.pool, rule, app.clock.now(), MOST_OFFENDERS).await {
        Ok((offenders, _)) if offenders.is_empty() => finding,
        Ok((offenders, more)) => Finding { status: rule.severity, offenders, more, ..finding },
        Err(error) => unknown(finding, &error),
    }
}
