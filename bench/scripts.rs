//! The service's statements as pgbench's scripts, with values. Where these do not matter they are the cheapest valid ones.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{bail, ensure};
use serde::Deserialize;
use sqlx::types::Uuid;

use super::world::{AMOUNT_MINOR, CUSTOMERS, Merchant, PLAN};

/// A statement of the service.
pub struct Statement {
    pub text: String,
    /// Of each value that it takes, as Postgres calls it.
    types: Vec<String>,
}

/// Values for statements, taken from what the service itself wrote.
pub struct Constants {
    pub initiated: String,
    pub completed: String,
    pub content: String,
    pub price: String,
}

impl Statement {
    /// The statement whose first line is `-- name`.
    pub fn read(name: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct File {
            query: String,
            describe: Describe,
        }
        #[derive(Deserialize)]
        struct Describe {
            parameters: BTreeMap<String, Vec<String>>,
        }
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
        for entry in fs::read_dir(&dir)? {
            let file: File = serde_json::from_slice(&fs::read(entry?.path())?)?;
            if let Some((first, text)) = file.query.split_once('\n')
                && first.trim() == format!("-- {name}")
            {
                let parameters = file.describe.parameters.into_values().flatten();
                return Ok(Self {
                    text: text.to_owned(),
                    types: parameters.map(|name| sql_type(&name)).collect(),
                });
            }
        }
        bail!("no statement in .sqlx is called {name}")
    }

    /// With an expression in place of each of its parameters.
    pub fn with(&self, values: &[String]) -> anyhow::Result<String> {
        let (known, wanted) = (values.len(), self.types.len());
        ensure!(known == wanted, "bench/scripts.rs has {known} values for the {wanted} of: {}", self.text);
        let mut script = String::new();
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
            let place = after[..digits].parse::<usize>()? - 1;
            script.push_str(before);
            // Writing to a String cannot fail.
            let _ = write!(script, "({})::{}", values[place], self.types[place]);
            rest = &after[digits..];
        }
        script.push_str(rest);
        Ok(without_marks(&script))
    }
}

/// `Uuid`, `Int8Array` …
fn sql_type(name: &str) -> String {
    match name.strip_suffix("Array") {
        Some(element) => format!("{}[]", element.to_lowercase()),
        None => name.to_lowercase(),
    }
}

/// Names of columns without what they tell sqlx: `"id?"`, `"version!"`, `"prices: Value"`.
fn without_marks(text: &str) -> String {
    let parts = text.split('"').enumerate().map(|(place, part)| match place % 2 {
        1 => part.split(['!', '?', ':']).next().unwrap_or_default(),
        _ => part,
    });
    parts.collect::<Vec<_>>().join("\"")
}

pub fn constant(value: impl std::fmt::Display) -> String {
    format!("'{value}'")
}

fn later(interval: &str) -> String {
    format!("now() + interval '{interval}'")
}

fn bytes(hex: &str) -> String {
    format!("'\\x{hex}'")
}

/// Reads one of some sessions.
pub fn poll(merchant: &Merchant, sessions: &[Uuid]) -> anyhow::Result<String> {
    let list: Vec<_> = sessions.iter().map(constant).collect();
    let picked = format!("(array[{}]::uuid[])[:k::int]", list.join(","));
    let find = Statement::read("checkout.find")?.with(&[constant(merchant.environment), picked])?;
    Ok(format!("\\set k random(1, {})\n{find};\n", sessions.len()))
}

/// A number for each transaction, in the order of time as ids of the service are, and what follows from it. Each table's
/// ids are its own, so one serves for all.
const NUMBERS: &str = "\\set i :i + 1\n\\set n :base + :i * :clients + :client_id\n";
const ID: &str = "'01a00000-0000-7000-8000-' || :n::text";

pub fn create(merchant: &Merchant, constants: &Constants) -> anyhow::Result<String> {
    let (environment, null, now) = (constant(merchant.environment), "null".to_owned(), "now()".to_owned());
    let (id, text) = (ID.to_owned(), |text: &str| constant(text));
    let ids = format!("array[{ID}]");
    let offer = Statement::read("checkout.find_offer")?.with(&[
        environment.clone(),
        "'user_' || :k::text".into(),
        null.clone(),
        text(PLAN),
        now.clone(),
    ])?;
    let draft = Statement::read("checkout.insert_draft")?.with(&[
        environment.clone(),
        id.clone(),
        ":o_customer_id".into(),
        ":o_plan_id".into(),
        text("inr"),
        text("MONTHLY"),
        "1".into(),
        now.clone(),
        text("UTC"),
        null.clone(),
        later("1 month"),
        text("send_invoice"),
        null.clone(),
        text("{}"),
        now.clone(),
        id.clone(),
        AMOUNT_MINOR.to_string(),
        text("Pro"),
        ids.clone(),
        format!("array['{}']", constants.price),
        "array[1]".into(),
        "array['Pro']".into(),
        ids.clone(),
        format!("array[{AMOUNT_MINOR}]"),
        id.clone(),
        id.clone(),
        ":o_connection_id".into(),
        null.clone(),
        text("https://app.example.com/welcome"),
        text("https://app.example.com/pricing"),
        text("https://app.example.com/pricing"),
        text("{}"),
        later("1 day"),
        later("1 minute"),
    ])?;
    let pending = Statement::read("checkout.mark_pending")?.with(&[
        environment,
        id.clone(),
        id,
        text("checkout.session.initiated"),
        "1".into(),
        bytes(&constants.initiated),
        now,
        delivery_ids(),
        null.clone(),
        "'plink_' || :n::text".into(),
        "'https://rzp.io/i/plink_' || :n::text".into(),
        later("1 minute"),
        text("initiated"),
        ":d_version".into(),
        text("create"),
        null,
    ])?;
    Ok(format!("{NUMBERS}\\set k :n % {CUSTOMERS}\n{offer}\n\\gset o_\n{draft}\n\\gset d_\n{pending};\n"))
}

/// For up to three endpoints.
fn delivery_ids() -> String {
    let ids: Vec<_> = (1..=3).map(|place| format!("'01a00000-0000-7000-800{place}-' || :n::text")).collect();
    format!("array[{}]", ids.join(","))
}

pub fn completion(merchant: &Merchant, constants: &Constants) -> anyhow::Result<String> {
    let (environment, null, now) = (constant(merchant.environment), "null".to_owned(), "now()".to_owned());
    let (id, text) = (ID.to_owned(), |text: &str| constant(text));
    let link = "'plink_' || :n::text".to_owned();
    let find =
        Statement::read("checkout.find_by_link")?.with(&[environment.clone(), link.clone(), id.clone()])?;
    let complete = Statement::read("checkout.complete_at_once")?.with(&[
        environment,
        id.clone(),
        // Of the table of events, where the first one of the session has the same number.
        "'01a00000-0000-7000-9000-' || :n::text".into(),
        text("checkout.session.completed"),
        "2".into(),
        bytes(&constants.completed),
        now,
        delivery_ids().replace("-800", "-900"),
        null.clone(),
        link,
        text("closed"),
        later("6 hours"),
        text("pending"),
        "'pay_' || :n::text".into(),
        text("INV-"),
        id.clone(),
        text("webhook"),
        id,
        ":f_version".into(),
        "array[:f_connection_id]".into(),
        text("payment_link.paid"),
        "sha256(:n::text::bytea)".into(),
        format!("convert_from('\\x{}', 'utf8')", constants.content),
        AMOUNT_MINOR.to_string(),
        text("inr"),
    ])?;
    Ok(format!("{NUMBERS}{find}\n\\gset f_\n{complete};\n"))
}
