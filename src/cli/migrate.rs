//! `checkoutd migrate`

use super::{Config, db};

/// Applies the migrations that are missing. Safe to run from several places at once.
pub async fn run() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let url =
        config.database_url.as_ref().ok_or_else(|| anyhow::anyhow!("DATABASE_URL must be a Postgres URL"))?;
    let pool = db::connect(url, 2).map_err(|_| anyhow::anyhow!("DATABASE_URL must be a Postgres URL"))?;
    db::migrate(&pool).await?;
    println!("the database is up to date");
    Ok(())
}
