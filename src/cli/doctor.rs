//! `checkoutd doctor`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{build, service_config};
use crate::doctor::{self, Finding, Severity};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Something that must not be.
const VIOLATED: u8 = 1;
/// Not everything could be looked at.
const COULD_NOT_RUN: u8 = 2;

/// Looks at everything, prints it, and says by its exit code how it is: 0 all right (there may be warnings), 1 not,
/// 2 not everything could be looked at.
pub async fn run(options: &Options) -> ExitCode {
    let app = match service_config().and_then(|config| build(&config)) {
        Ok(app) => app,
        Err(error) => {
            let finding = Finding {
                name: "configuration",
                text: "the environment variables are complete and right",
                status: Severity::Fail,
                reason: Some(format!("{error:#}")),
                offenders: Vec::new(),
                more: false,
                unknown: true,
            };
            print(&[finding], options.json);
            return ExitCode::from(COULD_NOT_RUN);
        }
    };
    let findings = doctor::examine(&app).await;
    print(&findings, options.json);
    if findings.iter().any(|finding| finding.unknown) {
        ExitCode::from(COULD_NOT_RUN)
    } else if findings.iter().any(|finding| finding.status == Severity::Fail) {
        ExitCode::from(VIOLATED)
    } else {
        ExitCode::SUCCESS
    }
}

fn print(findings: &[Finding], as_json: bool) {
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Severity::Ok);
    if as_json {
        println!("{}", json!({"status": worst, "checks": findings}));
        return;
    }
    for finding in findings {
        println!("{}", line(finding));
    }
}

fn line(finding: &Finding) -> String {
    let word = match finding.status {
        Severity::Ok => "ok  ",
        Severity::Warn => "warn",
        Severity::Fail => "FAIL",
    };
    let mut line = format!("{word}  {}: {}", finding.name, finding.text);
    if let Some(reason) = &finding.reason {
        line = format!("{line} — {}", reason.replace('\n', " "));
    }
    if !finding.offenders.is_empty() {
        line = format!("{line} — {}", finding.offenders.join(", ").escape_debug());
    }
    if finding.more {
        line.push_str(" and more");
    }
    line
}
