//! Parses the command line, runs the command, sets the exit code.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match checkoutd::cli::run(checkoutd::cli::Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("checkoutd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
