//! Finds `initdb` and `postgres`, which most packages keep out of PATH.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Error;
use super::place::Place;

/// Older ones are past their end of life and lack what the migrations use.
const OLDEST_MAJOR: u32 = 14;

/// One installation of the server.
#[derive(Debug)]
pub(super) struct Programs {
    /// The directory that holds both programs.
    pub bin: PathBuf,
}

/// The first installation that can run the place's data: any recent one when there is none yet.
pub(super) async fn find(pg_bin: Option<&Path>, place: &Place) -> Result<Programs, Error> {
    let wanted = place.data_version();
    let candidates = match pg_bin {
        Some(dir) => vec![dir.to_owned()],
        None => candidates().await,
    };
    let mut found = Vec::new();
    for bin in candidates {
        match major_version(&bin).await {
            Some(major) if major < OLDEST_MAJOR => {}
            Some(major) if wanted.is_none_or(|wanted| wanted == major) => return Ok(Programs { bin }),
            Some(major) => found.push(major),
            None => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    match wanted {
        Some(data) if !found.is_empty() => {
            let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Error::OtherVersion { dir: place.data.clone(), data, found })
        }
        _ => Err(Error::ProgramsMissing { looked_in: pg_bin.map(Path::to_owned) }),
    }
}

/// Directories to look in, best first.
async fn candidates() -> Vec<PathBuf> {
    // PATH is the system's way to name programs, not configuration of this service.
    #[expect(clippy::disallowed_methods, reason = "PATH is the system's, not configuration")]
    let path = std::env::var_os("PATH");
    let mut dirs: Vec<_> =
        path.iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>()).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    dirs.extend(newest_first("/usr/lib/postgresql", ""));
    dirs.extend(newest_first("/usr", "pgsql-"));
    dirs.extend(newest_first("/opt/homebrew/opt", "postgresql"));
    dirs.extend(newest_first("/usr/local/opt", "postgresql"));
    dirs
}

/// `<parent>/<prefix>*/bin`, ordered by the number after the prefix (Homebrew writes `postgresql@17`).
fn newest_first(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.trim_start_matches('@');
            Some((version.parse().unwrap_or(0), entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, bin)| bin).collect()
}

/// The major version in a directory that holds both programs.
async fn major_version(bin: &Path) -> Option<u32> {
    if !bin.is_absolute() || !bin.join("initdb").is_file() || !bin.join("postgres").is_file() {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().await.ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split(' ').find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_major;

    #[test]
    fn the_major_version_is_read_from_every_vendors_line() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 17.2 (Homebrew)\n"), Some(17));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("postgres: command failed\n"), None);
    }
}
