//! `checkoutd tenant …`

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use super::build_for_command;
use crate::tenancy::{self, EnvironmentId, KeyId, NewTenant, Revoked, TenantId, TenantKey};

/// Arguments of `tenant`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a tenant with a test and a live environment and an API key for each.
    Create {
        /// The merchant's name.
        #[arg(long)]
        name: String,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// The API keys of any tenant: for when one leaked, or none is left.
    #[command(subcommand)]
    Keys(Keys),
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Show every key of a tenant, in all its environments, revoked ones too.
    List {
        /// The tenant.
        #[arg(long)]
        tenant: TenantId,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key at once, even the last one of its environment. Safe to repeat.
    Revoke {
        /// The key's record, `secret_…`: not its text.
        id: KeyId,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Make a key that does not expire, and show it once.
    Create {
        /// The environment that it is to open.
        #[arg(long)]
        environment: EnvironmentId,
        /// What it is for.
        #[arg(long, default_value = "operator")]
        name: String,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub async fn run(options: Options) -> anyhow::Result<()> {
    match options.command {
        Command::Create { name, json } => create(&name, json).await,
        Command::Keys(Keys::List { tenant, json }) => list_keys(tenant, json).await,
        Command::Keys(Keys::Revoke { id, json }) => revoke_key(id, json).await,
        Command::Keys(Keys::Create { environment, name, json }) => create_key(environment, &name, json).await,
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    ensure!((1..=255).contains(&name.chars().count()), "--name must have 1 to 255 characters");
    Ok(())
}

async fn create(name: &str, json: bool) -> anyhow::Result<()> {
    check_name(name)?;
    let app = build_for_command().await?;
    let tenant = tenancy::create_tenant(&app, name).await?;
    if json {
        println!("{}", serde_json::to_string(&tenant)?);
    } else {
        print(&tenant);
    }
    Ok(())
}

fn print(tenant: &NewTenant) {
    println!("tenant {}", tenant.tenant_id);
    for environment in &tenant.environments {
        println!("\n{} environment {}", environment.mode.as_str(), environment.id);
        println!("  API key (shown once)    {}", environment.api_key);
        println!("  Razorpay's webhook URL  {}", environment.webhook_url);
    }
}

async fn list_keys(tenant: TenantId, json: bool) -> anyhow::Result<()> {
    let app = build_for_command().await?;
    let keys = tenancy::list_keys(&app, tenant).await?;
    let keys = keys.with_context(|| format!("there is no tenant {tenant}"))?;
    if json {
        println!("{}", json!({"items": keys}));
    } else {
        keys.iter().for_each(print_key);
        println!("{} key(s)", keys.len());
    }
    Ok(())
}

fn print_key(key: &TenantKey) {
    // Escaped: names are text from outside.
    println!(
        "{} {} {} created={} expires={} {} environment={} \"{}\" name=\"{}\"",
        key.id,
        key.status,
        key.display_id,
        key.created_at.to_rfc3339(),
        key.expires_at.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339()),
        key.mode.as_str(),
        key.environment_id,
        key.environment_name.escape_debug(),
        key.name.escape_debug(),
    );
}

async fn revoke_key(id: KeyId, json: bool) -> anyhow::Result<()> {
    let app = build_for_command().await?;
    let is_new = match tenancy::revoke_key(&app, id).await? {
        Revoked::Now => true,
        Revoked::Before => false,
        Revoked::Unknown => bail!("there is no key {id}"),
    };
    if json {
        println!("{}", json!({"id": id, "revoked": is_new}));
    } else {
        println!("{id} {}", if is_new { "is revoked" } else { "was revoked already: nothing to do" });
    }
    Ok(())
}

async fn create_key(environment: EnvironmentId, name: &str, json: bool) -> anyhow::Result<()> {
    check_name(name)?;
    let app = build_for_command().await?;
    let key = tenancy::create_key(&app, environment, name).await?;
    let key = key.with_context(|| format!("there is no environment {environment}"))?;
    if json {
        println!("{}", serde_json::to_string(&key)?);
    } else {
        println!("{} of the {} environment {environment}", key.id, key.mode.as_str());
        println!("  API key (shown once)    {}", key.api_key);
    }
    Ok(())
}
