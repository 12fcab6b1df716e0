//! What the service said of itself: not evidence, but a panic is always a problem.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

use crate::tally::Tally;

/// Counts alerts and panics in the replicas' logs.
pub fn scan(folder: &Path, tally: &Tally) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("replica-") {
            continue;
        }
        // A killed process may leave half a line.
        for line in BufReader::new(File::open(&path)?).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if line.contains("panicked") {
                tally.problem(format!("{name}: {line:.400}"));
            }
            if let Some((_, rest)) = line.split_once("\"alert\":\"") {
                tally.count(format!("alerts: {}", rest.split('"').next().unwrap_or_default()));
            }
        }
    }
    Ok(())
}
