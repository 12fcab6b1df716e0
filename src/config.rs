//! Configuration: environment variables only, read once, every error reported at once and by name.
//!
//! `.env.example` lists them with their defaults; a test keeps it complete.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;

use crate::{db, kit::secret};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// `DATABASE_URL`: Postgres. Absent, `dev` starts its own and the other commands refuse.
    pub database_url: Option<SecretString>,
    /// `CHECKOUTD_DATABASE_POOL_SIZE`: most connections to Postgres.
    pub database_pool_size: u32,
    /// `CHECKOUTD_CREATES_AT_ONCE`: sessions that are drafted at a time; more wait, and too many are refused.
    pub creates_at_once: u32,
    /// `CHECKOUTD_BIND`: where the API listens.
    pub bind: SocketAddr,
    /// `CHECKOUTD_PUBLIC_URL`: how the world reaches the API; the return page and webhook URLs start with it.
    pub public_url: Url,
    /// `CHECKOUTD_ENCRYPTION_KEY`: keys that seal secrets.
    pub encryption_key: Option<SecretString>,
    /// `RAZORPAY_BASE_URL`: Razorpay's API, or the sandbox.
    pub razorpay_base_url: Url,
    /// `CHECKOUTD_SESSION_TTL_SECONDS`: how long a customer has to pay.
    pub session_ttl: Duration,
    /// `CHECKOUTD_PROVIDER_READS_PER_SECOND`: reads per Razorpay account and process that could as well wait.
    pub provider_reads_per_second: u32,
    /// `CHECKOUTD_RATE_LIMIT_PER_SECOND`: requests per API key and process in the long run; 0 = no limit.
    pub rate_limit_per_second: u32,
    /// `CHECKOUTD_RATE_LIMIT_BURST`: requests per API key and process at once.
    pub rate_limit_burst: u32,
    /// `CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE`: those from one address that are answered 401; 0 = all.
    pub failed_authentications_per_minute: u32,
    /// `CHECKOUTD_EVENT_RETENTION_DAYS`: how long events, deliveries and attempts are kept.
    pub event_retention: Duration,
    /// `CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS`: lets webhook endpoints of test environments be http and loopback.
    pub allow_private_webhook_targets: bool,
    /// `CHECKOUTD_LOG`: filter directives of `tracing-subscriber`.
    pub log: String,
    /// `CHECKOUTD_LOG_FORMAT`: `json` or `pretty`.
    pub log_format: LogFormat,
    /// `CHECKOUTD_SANDBOX_BIND`: where `dev` puts the Razorpay simulator.
    pub sandbox_bind: SocketAddr,
    /// `PG_BIN`: folder of Postgres's server programs, for `dev` and the tests, where they are not found by themselves.
    pub pg_bin: Option<PathBuf>,
}

/// What the commands that use a running service over HTTP take from the environment.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `CHECKOUTD_API_URL`: the service.
    pub api_url: Option<Url>,
    /// `CHECKOUTD_API_KEY`: who they are there.
    pub api_key: Option<SecretString>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What is wrong with the environment, all of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid configuration:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

/// One variable: its name and, where it has one, its default.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Name in the environment.
    pub name: &'static str,
    /// What absence means; `None` where it means just that.
    pub default: Option<&'static str>,
}

const fn variable(name: &'static str, default: Option<&'static str>) -> Variable {
    Variable { name, default }
}

/// Postgres.
pub const DATABASE_URL: Variable = variable("DATABASE_URL", None);
const POOL_SIZE: Variable = variable("CHECKOUTD_DATABASE_POOL_SIZE", Some("16"));
const CREATES_AT_ONCE: Variable = variable("CHECKOUTD_CREATES_AT_ONCE", Some("4"));
const BIND: Variable = variable("CHECKOUTD_BIND", Some("127.0.0.1:8080"));
const PUBLIC_URL: Variable = variable("CHECKOUTD_PUBLIC_URL", None);
/// Keys that seal secrets.
pub const ENCRYPTION_KEY: Variable = variable("CHECKOUTD_ENCRYPTION_KEY", None);
const RAZORPAY_BASE_URL: Variable = variable("RAZORPAY_BASE_URL", Some("https://api.razorpay.com"));
const SESSION_TTL: Variable = variable("CHECKOUTD_SESSION_TTL_SECONDS", Some("900"));
const READS_PER_SECOND: Variable = variable("CHECKOUTD_PROVIDER_READS_PER_SECOND", Some("20"));
const RATE_LIMIT: Variable = variable("CHECKOUTD_RATE_LIMIT_PER_SECOND", Some("100"));
const RATE_LIMIT_BURST: Variable = variable("CHECKOUTD_RATE_LIMIT_BURST", Some("200"));
const FAILED_AUTHENTICATIONS: Variable = variable("CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE", Some("20"));
const EVENT_RETENTION: Variable = variable("CHECKOUTD_EVENT_RETENTION_DAYS", Some("90"));
const ALLOW_PRIVATE: Variable = variable("CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS", Some("false"));
const LOG: Variable = variable("CHECKOUTD_LOG", Some("info"));
const LOG_FORMAT: Variable = variable("CHECKOUTD_LOG_FORMAT", Some("json"));
const SANDBOX_BIND: Variable = variable("CHECKOUTD_SANDBOX_BIND", Some("127.0.0.1:8090"));
const PG_BIN: Variable = variable("PG_BIN", None);
/// The service that `listen` and `trigger` use.
pub const API_URL: Variable = variable("CHECKOUTD_API_URL", None);
/// Their key there.
pub const API_KEY: Variable = variable("CHECKOUTD_API_KEY", None);

/// Every variable that any command reads.
pub const VARIABLES: &[Variable] = &[
    DATABASE_URL,
    POOL_SIZE,
    CREATES_AT_ONCE,
    BIND,
    PUBLIC_URL,
    ENCRYPTION_KEY,
    RAZORPAY_BASE_URL,
    SESSION_TTL,
    READS_PER_SECOND,
    RATE_LIMIT,
    RATE_LIMIT_BURST,
    FAILED_AUTHENTICATIONS,
    EVENT_RETENTION,
    ALLOW_PRIVATE,
    LOG,
    LOG_FORMAT,
    SANDBOX_BIND,
    PG_BIN,
    API_URL,
    API_KEY,
];

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
        Self::from_lookup(|name| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned()))
    }

    /// As [`Config::from_env`], with variables that must be given; what is missing is reported with all the rest.
    pub fn from_env_requiring(required: &[Variable]) -> Result<Self, ConfigError> {
        let missing = |config: &Self, variable: &Variable| match variable.name {
            "DATABASE_URL" => config.database_url.is_none(),
            "CHECKOUTD_ENCRYPTION_KEY" => config.encryption_key.is_none(),
            _ => false,
        };
        match Self::from_env() {
            Ok(config) => {
                let errors: Vec<_> = required
                    .iter()
                    .filter(|variable| missing(&config, variable))
                    .map(|variable| format!("{} must be set", variable.name))
                    .collect();
                if errors.is_empty() { Ok(config) } else { Err(ConfigError(errors)) }
            }
            Err(ConfigError(mut errors)) => {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
                let unset = |name| std::env::var_os(name).is_none_or(|text| text.is_empty());
                errors.extend(
                    required.iter().filter(|v| unset(v.name)).map(|v| format!("{} must be set", v.name)),
                );
                Err(ConfigError(errors))
            }
        }
    }

    /// Reads the process's environment, with other defaults: logs for people, and webhooks to this machine.
    pub fn for_dev() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
            let given = std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
            given.or_else(|| match name {
                "CHECKOUTD_LOG_FORMAT" => Some("pretty".to_owned()),
                "CHECKOUTD_ALLOW_PRIVATE_WEBHOOK_TARGETS" => Some("true".to_owned()),
                _ => None,
            })
        })
    }

    /// Reads from `lookup`; an empty value counts as absent.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader { lookup, errors: Vec::new() };
        let bind = reader
            .parse(BIND, "must be an address and port such as 127.0.0.1:8080", |text| text.parse().ok());
        let config = Self {
            database_url: reader.optional(DATABASE_URL, "must be a Postgres URL", db::is_url),
            database_pool_size: reader.parse(POOL_SIZE, "must be a number from 2 to 1000", |text| {
                text.parse().ok().filter(|size| (2..=1000).contains(size))
            }),
            creates_at_once: reader.parse(CREATES_AT_ONCE, "must be a number from 1 to 1000", |text| {
                text.parse().ok().filter(|creates| (1..=1000).contains(creates))
            }),
            bind,
            public_url: match reader.text(PUBLIC_URL) {
                Some(text) => reader.check(PUBLIC_URL, "must be an absolute http(s) URL", base_url(&text)),
                None => base_url(&format!("http://{bind}")).unwrap_or_else(placeholder_url),
            },
            encryption_key: reader.optional(ENCRYPTION_KEY, ENCRYPTION_KEY_RULE, secret::are_keys),
            razorpay_base_url: reader.parse(RAZORPAY_BASE_URL, KEYED_URL_RULE, keyed_url),
            session_ttl: reader.parse(SESSION_TTL, "must be a number of seconds from 1 to 86400", |text| {
                text.parse().ok().filter(|ttl| (1..=86_400).contains(ttl)).map(Duration::from_secs)
            }),
            provider_reads_per_second: reader.parse(
                READS_PER_SECOND,
                "must be a number from 1 to 1000",
                |text| text.parse().ok().filter(|reads| (1..=1000).contains(reads)),
            ),
            rate_limit_per_second: reader.parse(RATE_LIMIT, "must be a number from 0 to 1000000", |text| {
                text.parse().ok().filter(|limit| (0..=1_000_000).contains(limit))
            }),
            rate_limit_burst: reader.parse(RATE_LIMIT_BURST, "must be a number from 1 to 1000000", |text| {
                text.parse().ok().filter(|burst| (1..=1_000_000).contains(burst))
            }),
            failed_authentications_per_minute: reader.parse(
                FAILED_AUTHENTICATIONS,
                "must be a number from 0 to 1000000",
                |text| text.parse().ok().filter(|most| (0..=1_000_000).contains(most)),
            ),
            event_retention: reader.parse(
                EVENT_RETENTION,
                "must be a number of days from 7 to 3650",
                |text| {
                    text.parse()
                        .ok()
                        .filter(|days| (7..=3650).contains(days))
                        .map(|days: u64| Duration::from_hours(24 * days))
                },
            ),
            allow_private_webhook_targets: reader
                .parse(ALLOW_PRIVATE, "must be true or false", |text| text.parse().ok()),
            log: reader.parse(LOG, "must be filter directives such as info,sqlx=warn", |text| {
                tracing_subscriber::EnvFilter::try_new(text).ok().map(|_| text.to_owned())
            }),
            log_format: reader.parse(LOG_FORMAT, "must be json or pretty", |text| match text {
                "json" => Some(LogFormat::Json),
                "pretty" => Some(LogFormat::Pretty),
                _ => None,
            }),
            sandbox_bind: reader.parse(
                SANDBOX_BIND,
                "must be an address and port such as 127.0.0.1:8090",
                |text| text.parse().ok(),
            ),
            pg_bin: reader.text(PG_BIN).map(Into::into),
        };
        if config.bind.ip().is_unspecified() && reader.text(PUBLIC_URL).is_none() {
            reader
                .errors
                .push("CHECKOUTD_PUBLIC_URL must be set when CHECKOUTD_BIND names no single address".into());
        }
        if reader.errors.is_empty() { Ok(config) } else { Err(ConfigError(reader.errors)) }
    }
}

impl ClientConfig {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
        let lookup = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
        let mut reader = Reader { lookup, errors: Vec::new() };
        let api_url = reader.text(API_URL);
        let api_url = api_url.map(|text| reader.check(API_URL, KEYED_URL_RULE, keyed_url(text.trim())));
        let api_key = reader.text(API_KEY).map(|text| text.trim().into());
        if reader.errors.is_empty() { Ok(Self { api_url, api_key }) } else { Err(ConfigError(reader.errors)) }
    }
}

struct Reader<L> {
    lookup: L,
    errors: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn text(&self, variable: Variable) -> Option<String> {
        let given = (self.lookup)(variable.name).filter(|text| !text.trim().is_empty());
        given.or_else(|| variable.default.map(str::to_owned))
    }

    fn parse<T: Fallback>(&mut self, variable: Variable, rule: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let parsed = self.text(variable).and_then(|text| parse(text.trim()));
        self.check(variable, rule, parsed)
    }

    /// A secret that may be absent, and is noted when it is there and wrong. Its text stays out of the note.
    fn optional(
        &mut self,
        variable: Variable,
        rule: &str,
        is_right: impl Fn(&SecretString) -> bool,
    ) -> Option<SecretString> {
        let secret = SecretString::from(self.text(variable)?);
        if !is_right(&secret) {
            self.errors.push(format!("{} {rule}", variable.name));
        }
        Some(secret)
    }

    /// Notes an error and goes on with a stand-in, so that one run reports all errors.
    fn check<T: Fallback>(&mut self, variable: Variable, rule: &str, parsed: Option<T>) -> T {
        parsed.unwrap_or_else(|| {
            self.errors.push(format!("{} {rule}", variable.name));
            T::fallback()
        })
    }
}

/// A stand-in that never leaves this file: a `Config` with errors is not returned.
trait Fallback {
    fn fallback() -> Self;
}

macro_rules! fallback {
    ($($type:ty => $value:expr;)*) => {$(
        impl Fallback for $type { fn fallback() -> Self { $value } }
    )*};
}

fallback! {
    SocketAddr => SocketAddr::from(([127, 0, 0, 1], 0));
    String => String::new();
    u32 => 2;
    Url => placeholder_url();
    Duration => Duration::ZERO;
    bool => false;
    LogFormat => LogFormat::Json;
}

fn placeholder_url() -> Url {
    Url::parse("http://localhost/").expect("a constant that parses")
}

const ENCRYPTION_KEY_RULE: &str =
    "must be 32 bytes in base64 (openssl rand -base64 32), several separated by commas";
/// What [`keyed_url`] wants.
pub const KEYED_URL_RULE: &str = "must be an absolute https URL; http is for this machine only";

/// Where keys are sent to: an https URL, or an http one on this machine, because they go there in clear.
pub fn keyed_url(text: &str) -> Option<Url> {
    base_url(text).filter(|url| url.scheme() == "https" || is_loopback(url))
}

/// Whether a URL leads to this machine by its name or its address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// An absolute http(s) URL; ends in a slash, so that `join` appends.
fn base_url(text: &str) -> Option<Url> {
    let mut url =
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    // Paths are appended to it; and it ends up in logs.
    let plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !plain {
        return None;
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_is_the_defaults() {
        let config = Config::from_lookup(|_| None).expect("the defaults are valid");
        assert_eq!(config.bind.port(), 8080);
        assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080/");
        assert_eq!(config.session_ttl, Duration::from_secs(900));
        assert!(config.database_url.is_none());
    }

    #[test]
    fn every_error_is_named_at_once() {
        let error = Config::from_lookup(|name| match name {
            "CHECKOUTD_BIND" => Some("nowhere".into()),
            "RAZORPAY_BASE_URL" => Some("http://razorpay.example".into()),
            "DATABASE_URL" => Some("mysql://x".into()),
            "CHECKOUTD_ENCRYPTION_KEY" => Some("short".into()),
            "CHECKOUTD_SESSION_TTL_SECONDS" => Some("0".into()),
            "CHECKOUTD_LOG_FORMAT" => Some("xml".into()),
            _ => None,
        })
        .expect_err("six variables are wrong");
        assert_eq!(error.0.len(), 6, "{error}");
        for name in
            ["CHECKOUTD_BIND", "RAZORPAY_BASE_URL", "CHECKOUTD_SESSION_TTL_SECONDS", "CHECKOUTD_LOG_FORMAT"]
        {
            assert!(error.0.iter().any(|line| line.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn a_service_on_all_addresses_must_know_its_own_name() {
        let config = |public: Option<&'static str>| {
            Config::from_lookup(move |name| match name {
                "CHECKOUTD_BIND" => Some("0.0.0.0:8080".into()),
                "CHECKOUTD_PUBLIC_URL" => public.map(Into::into),
                _ => None,
            })
        };
        assert!(config(None).is_err());
        assert!(config(Some("https://pay.example.com")).is_ok());
        for wrong in ["https://pay.example.com/?a=b", "https://u:p@pay.example.com", "pay.example.com"] {
            assert!(config(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_example_lists_every_variable_with_its_default() {
        let example = include_str!("../.env.example");
        for variable in VARIABLES {
            let line = format!("{}={}", variable.name, variable.default.unwrap_or_default());
            assert!(example.lines().any(|text| text.trim_start_matches("# ") == line), "missing: {line}");
        }
        let known =
            |line: &str| VARIABLES.iter().any(|variable| line.starts_with(&format!("{}=", variable.name)));
        for line in
            example.lines().map(|line| line.trim_start_matches("# ")).filter(|line| line.contains('='))
        {
            assert!(known(line), "not a variable of the service: {line}");
        }
    }
}
