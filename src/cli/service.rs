//! Which running service a command uses: the one it is told, or the `dev` of this directory.

use std::convert::Infallible;

use anyhow::bail;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::dev::Running;
use crate::config::{self, ClientConfig};

/// Flags that name it.
#[derive(Debug, Args)]
pub struct ServiceOptions {
    /// The service. Else the variable `CHECKOUTD_API_URL`; else the `checkoutd dev` that was started in this directory.
    #[arg(long, value_name = "URL", value_parser = keyed_url)]
    api_url: Option<Url>,
    /// An API key of a test environment there. Else the variable `CHECKOUTD_API_KEY`, which other users of this machine
    /// cannot see; else the key of that `dev`.
    #[arg(long, value_name = "KEY", value_parser = secret)]
    api_key: Option<SecretString>,
}

/// As [`config::keyed_url`].
pub fn keyed_url(text: &str) -> Result<Url, &'static str> {
    config::keyed_url(text).ok_or(config::KEYED_URL_RULE)
}

/// Any text: what is wrong with a secret is said without showing it.
#[expect(clippy::unnecessary_wraps, reason = "what clap takes")]
pub fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(text.into())
}

/// A running service, and who the command is there.
#[derive(Debug)]
pub struct Service {
    /// Where it is.
    pub api_url: Url,
    /// A key of a test environment.
    pub api_key: SecretString,
    /// Its sandbox, where that is known.
    pub sandbox_url: Option<Url>,
}

impl Service {
    /// Finds it. Flags come before variables, variables before what `dev` wrote down. Keys of live environments are
    /// refused.
    pub fn find(options: &ServiceOptions) -> anyhow::Result<Self> {
        let variables = ClientConfig::from_env()?;
        let url = options.api_url.clone().or(variables.api_url);
        let key = options.api_key.clone().or(variables.api_key);
        let service = choose(url, key, Running::load())?;
        let key = service.api_key.expose_secret();
        if key.starts_with("sk_live_") {
            bail!(
                "the API key is of a live environment (sk_live_…): events of real customers do not go to a developer's \
                 machine. Use a key of a test environment (sk_test_…)"
            );
        }
        if !key.starts_with("sk_test_") {
            bail!("--api-key (or CHECKOUTD_API_KEY) must be a key of a test environment: sk_test_…");
        }
        Ok(service)
    }
}

fn choose(url: Option<Url>, key: Option<SecretString>, dev: Option<Running>) -> anyhow::Result<Service> {
    let Some(api_url) = url.or_else(|| dev.as_ref().map(|dev| dev.api_url.clone())) else {
        bail!(
            "no `checkoutd dev` was started in this directory. Start it here, or name a service: --api-url and --api-key, \
             or the variables CHECKOUTD_API_URL and CHECKOUTD_API_KEY"
        );
    };
    // The demo's key and sandbox belong to the demo's service.
    let dev = dev.filter(|dev| dev.api_url == api_url);
    let (demo_key, sandbox_url) = dev.map(|dev| (dev.api_key, dev.sandbox_url)).unzip();
    let Some(api_key) = key.or(demo_key) else {
        bail!(
            "--api-key (or CHECKOUTD_API_KEY) must be given: an API key of a test environment at {api_url}"
        );
    };
    Ok(Service { api_url, api_key, sandbox_url })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn dev() -> Running {
        let api_key = "sk_test_demo".into();
        let (api_url, sandbox_url) = (url("http://127.0.0.1:8080/"), url("http://127.0.0.1:8090/"));
        Running { api_url, sandbox_url, api_key }
    }

    fn chosen(api: Option<&str>, key: Option<&str>, dev: Option<Running>) -> Option<(String, String, bool)> {
        let service = choose(api.map(url), key.map(Into::into), dev).ok()?;
        let key = service.api_key.expose_secret().to_owned();
        Some((service.api_url.to_string(), key, service.sandbox_url.is_some()))
    }

    #[test]
    fn the_demos_key_goes_to_the_demo_only() {
        let (here, there) = ("http://127.0.0.1:8080/", "https://pay.example.com/");
        let found = |api: &str, key: &str, sandbox| Some((api.to_owned(), key.to_owned(), sandbox));
        assert_eq!(chosen(None, None, Some(dev())), found(here, "sk_test_demo", true));
        assert_eq!(chosen(Some(here), None, Some(dev())), found(here, "sk_test_demo", true));
        assert_eq!(chosen(None, Some("sk_test_own"), Some(dev())), found(here, "sk_test_own", true));
        assert_eq!(chosen(Some(there), Some("sk_test_own"), Some(dev())), found(there, "sk_test_own", false));
        assert_eq!(chosen(Some(there), Some("sk_test_own"), None), found(there, "sk_test_own", false));
        for (api, key, dev) in
            [(Some(there), None, Some(dev())), (Some(there), None, None), (None, Some("sk_test_own"), None)]
        {
            assert_eq!(chosen(api, key, dev), None);
        }
    }
}
