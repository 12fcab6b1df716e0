//! `checkoutd tenant …`

use anyhow::bail;
use clap::{Args, Subcommand};

use super::build_for_command;
use crate::tenancy::{self, Mode, NewTenant};

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
}

/// Runs the subcommand.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Command::Create { name, json } = options.command;
    if !(1..=255).contains(&name.chars().count()) {
        bail!("--name must have 1 to 255 characters");
    }
    let app = build_for_command().await?;
    let tenant = tenancy::create_tenant(&app, &name).await?;
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
        let mode = match environment.mode {
            Mode::Test => "test",
            Mode::Live => "live",
        };
        println!("\n{mode} environment {}", environment.id);
        println!("  API key (shown once)    {}", environment.api_key);
        println!("  Razorpay's webhook URL  {}", environment.webhook_url);
    }
}
