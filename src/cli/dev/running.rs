//! Where the service of `dev` is, for the commands that use it.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{FOLDER, state};

const FILE: &str = "dev.json";

/// What the last start of `dev` in this directory wrote down. It may have ended since.
#[derive(Debug, Deserialize)]
pub struct Running {
    /// The API.
    pub api_url: Url,
    /// The Razorpay sandbox.
    pub sandbox_url: Url,
    /// The demo tenant's key: it opens nothing but this machine's own data.
    pub api_key: SecretString,
}

impl Running {
    /// Reads it; `None` where `dev` was never started.
    pub fn load() -> Option<Self> {
        state::load(&Path::new(FOLDER).join(FILE))
    }

    /// Writes it down, for its owner only.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let written = json!({
            "api_url": self.api_url, "sandbox_url": self.sandbox_url, "api_key": self.api_key.expose_secret(),
        });
        state::save(&folder.join(FILE), &written)
    }
}
