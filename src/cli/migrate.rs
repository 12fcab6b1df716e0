//! `checkoutd migrate`

use super::{Config, db, start_logging};
use crate::config;

/// Applies the migrations that are missing. Safe to run from several places at once.
pub async fn run() -> anyhow::Result<()> {
    let config = Config::from_env_requiring(&[config::DATABASE_URL])?;
    start_logging(&config)?;
    let url = config.database_url.unwrap_or_default();
    db::migrate(&url).await?;
    println!("the database is up to date");
    Ok(())
}
