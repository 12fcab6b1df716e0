//! `checkoutd refund …`

use anyhow::bail;
use clap::{Args, Subcommand};

use super::build_for_command;
use crate::payments::{self, Closed, RefundId};

/// Arguments of `refund`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say that the customer has the money by another way: the refund ends as succeeded, and the merchant is told.
    /// Nothing is sent to Razorpay, now or later. Safe to repeat.
    Close {
        /// The refund, as the API shows it.
        #[arg(long)]
        id: RefundId,
        /// How the customer got the money. Kept with the refund; the merchant sees it.
        #[arg(long, value_parser = note)]
        note: String,
    },
}

const LONGEST_NOTE: usize = 500;

fn note(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_NOTE || text.chars().any(char::is_control) {
        return Err(format!("a line of 1 to {LONGEST_NOTE} characters"));
    }
    Ok(text.to_owned())
}

/// Runs the subcommand.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Command::Close { id, note } = options.command;
    let app = build_for_command().await?;
    match payments::close_refund(&app, id, &note).await? {
        Closed::Unknown => bail!("there is no refund {id}"),
        Closed::Already => println!("{id} had succeeded before: nothing to do"),
        Closed::Now { from, gateway_refund_id, provider_payment_id } => {
            println!("{id} was {} and is SUCCEEDED, on your word", from.as_str());
            // Text from outside.
            let (payment, refund) = (provider_payment_id.escape_debug(), gateway_refund_id);
            match refund {
                Some(refund) => println!(
                    "not known: whether Razorpay still gives back {payment} by {}; look at it in the dashboard",
                    refund.escape_debug()
                ),
                None => println!(
                    "not known: whether a request that was not answered gave back {payment}; look at it in the dashboard"
                ),
            }
        }
    }
    Ok(())
}
