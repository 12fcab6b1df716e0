//! The house rules that no lint can check, read off the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Path below `src/` and text without comments and unit tests.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    rust_files(&src)
        .into_iter()
        .filter(|path| {
            !path.ends_with("tests.rs") && !path.parent().is_some_and(|folder| folder.ends_with("tests"))
        })
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            (path.strip_prefix(&src).unwrap().to_string_lossy().into_owned(), code)
        })
        .collect()
}

/// Files, named by a rule, that hold `needle` although `allowed` does not let them.
fn offenders(needle: &str, allowed: impl Fn(&str) -> bool) -> Vec<String> {
    sources()
        .into_iter()
        .filter(|(path, code)| code.contains(needle) && !allowed(path))
        .map(|(path, _)| path)
        .collect()
}

#[test]
fn sql_lives_in_stores() {
    // kit/ids.rs maps ids to Postgres, in the macro that declares them.
    let allowed = |path: &str| path.ends_with("store.rs") || path.starts_with("db/") || path == "kit/ids.rs";
    assert_eq!(offenders("sqlx::", allowed), Vec::<String>::new());
}

#[test]
fn http_lives_at_the_edge() {
    let allowed = |path: &str| {
        path.starts_with("http/")
            || path.starts_with("sandbox/")
            || path.ends_with("api.rs")
            || path.ends_with("_page.rs")
            || path.ends_with("_request.rs")
    };
    assert_eq!(offenders("axum::", allowed), Vec::<String>::new());
}

/// What is routed without a description is in neither `docs/openapi.json` nor the cross-tenant matrix.
#[test]
fn routes_of_the_api_are_described() {
    let undescribed =
        ["checkout/return_page.rs", "http/openapi/page.rs", "http/unsupported.rs", "metrics/api.rs"];
    let allowed = |path: &str| path.starts_with("sandbox/") || undescribed.contains(&path);
    assert_eq!(offenders(".route(", allowed), Vec::<String>::new());
}

const SLICES: [&str; 10] = [
    "catalog",
    "checkout",
    "customers",
    "inbox",
    "invoices",
    "payments",
    "settings",
    "subscriptions",
    "tenancy",
    "webhooks",
];

#[test]
fn a_slice_is_entered_by_its_facade_only() {
    let mut found = Vec::new();
    for slice in SLICES {
        let facade =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{slice}/mod.rs")))
                .unwrap();
        let submodules = facade.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        for submodule in submodules {
            let path = format!("{slice}::{submodule}::");
            found.extend(offenders(&format!("crate::{path}"), |file| file.starts_with(&format!("{slice}/"))));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn arrows_go_one_way() {
    // What each part must not know of.
    let forbidden: [(&str, &[&str]); 7] = [
        ("kit/", &["crate::db", "crate::http", "crate::app", "crate::checkout", "crate::tenancy"]),
        ("razorpay/", &["crate::checkout", "crate::tenancy", "crate::db", "crate::app", "crate::payments"]),
        ("sandbox/", &["crate::"]),
        ("webhooks/", &["crate::checkout", "crate::inbox", "crate::payments"]),
        ("payments/", &["crate::checkout", "crate::inbox"]),
        ("catalog/", &["crate::checkout", "crate::inbox", "crate::subscriptions"]),
        ("customers/", &["crate::checkout", "crate::inbox"]),
    ];
    let mut found = Vec::new();
    for (path, code) in sources() {
        for (folder, names) in forbidden {
            let known = names.iter().filter(|name| path.starts_with(folder) && code.contains(**name));
            found.extend(known.map(|name| format!("{path} knows {name}")));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn every_statement_says_where_it_comes_from() {
    let mut found = Vec::new();
    for (path, code) in sources().into_iter().filter(|(path, _)| path.ends_with("store.rs")) {
        let slice = path.split('/').next().unwrap();
        // The text starts on the macro's line or on one of the next two.
        for (at, _) in ["sqlx::query", "query_with_event!(", " complete!("]
            .iter()
            .flat_map(|call| code.match_indices(call))
        {
            let head: String = code[at..].chars().take(200).collect();
            // A macro's statements are named by its callers.
            let by_caller = head.contains("$name");
            if head.contains('(') && !by_caller && !head.contains(&format!("-- {slice}.")) {
                found.push(format!("{path}: {}", head.lines().take(3).collect::<Vec<_>>().join(" ")));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// Whoever else begins one and is dropped half-way returns the connection inside it (docs/adr/0003).
#[test]
fn transactions_begin_in_one_place() {
    let begins = |code: &str| [".begin(", ".begin_with("].iter().any(|call| code.contains(call));
    let found: Vec<_> =
        sources().into_iter().filter(|(_, code)| begins(code)).map(|(path, _)| path).collect();
    assert_eq!(found, ["db/transact.rs"]);
}

/// A kept plan fits every combination of optional filters, and reads the whole table for some.
#[test]
fn lists_with_optional_filters_are_planned_for_what_they_filter() {
    let is_optional = |line: &str| {
        let condition = line.trim_start().trim_start_matches("where ").trim_start_matches("and ");
        condition.starts_with("($") && condition.contains(" is null or ")
    };
    let mut seen = 0;
    let mut offenders = Vec::new();
    for (path, code) in sources().into_iter().filter(|(path, _)| path.ends_with("store.rs")) {
        for function in code.split("async fn ").skip(1) {
            if function.lines().any(is_optional) {
                seen += 1;
                if !function.contains("db::begin_list(") {
                    offenders.push(format!("{path}: {}", function.lines().next().unwrap()));
                }
            }
        }
    }
    assert_eq!(offenders, Vec::<String>::new());
    assert!(seen >= 4, "the rule looks for something that is not written so any more");
}

#[test]
fn statements_take_time_from_the_application() {
    let asks = |code: &str| {
        [
            "now()",
            "current_timestamp",
            "clock_timestamp",
            "statement_timestamp",
            "gen_random_uuid",
            "random()",
        ]
        .iter()
        .any(|call| code.contains(call))
    };
    let found: Vec<_> = sources()
        .into_iter()
        // `clock.now()` is how the application itself asks.
        .map(|(path, code)| (path, code.replace("clock.now()", "").replace(".now()", "")))
        .filter(|(path, code)| path.ends_with("store.rs") && asks(code))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(found, Vec::<String>::new());
    for (name, sql) in migrations() {
        let code = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<String>();
        assert!(!asks(&code.to_lowercase()), "{name}");
        assert!(!code.to_lowercase().contains("create trigger"), "{name}");
    }
}

fn migrations() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

/// One that holds a table and waits for the next meets requests that took them the other way round.
#[test]
fn a_migration_changes_one_table() {
    let mut seen = 0;
    // The ones before were released.
    for (name, sql) in migrations().into_iter().skip(12) {
        let code: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let code = code.join(" ");
        let mut tables: Vec<_> = ["alter table ", "update ", " on "]
            .iter()
            .flat_map(|before| code.split(before).skip(1))
            .map(|rest| rest.split([' ', '(', ';']).next().unwrap())
            .collect();
        tables.sort_unstable();
        tables.dedup();
        assert!(tables.len() <= 1 || code.contains("create table "), "{name}: {tables:?}");
        let is_alone = code.matches(';').count() == 1;
        let is_free = sql.starts_with("-- no-transaction\n");
        assert_eq!(code.contains(" concurrently "), is_free, "{name}");
        assert!(is_alone || !is_free, "{name}: several statements are one transaction");
        seen += 1;
    }
    assert!(seen >= 7, "the migrations were not read");
}

#[test]
fn every_tenant_table_is_keyed_by_its_environment() {
    // Above environments, or keyed by the environment alone.
    let exempt = ["tenants", "environments", "invoice_counters"];
    let mut tables = 0;
    for (_, sql) in migrations() {
        for table in sql.split("create table ").skip(1) {
            let name = table.split_whitespace().next().unwrap();
            let body = table.split("\n);").next().unwrap();
            tables += 1;
            if !exempt.contains(&name) {
                assert!(
                    body.contains("primary key (environment_id, "),
                    "{name} is not keyed by environment_id"
                );
            }
            for reference in body.match_indices("foreign key (").map(|(at, _)| &body[at..]) {
                assert!(reference.starts_with("foreign key (environment_id, "), "{name}: {reference:.60}");
            }
        }
    }
    assert!(tables > 15, "the migrations were not read");
}
