//! Why a server does not start, told to the person at the terminal.

use std::path::PathBuf;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory holds both `initdb` and `postgres` of a version that is recent enough.
    #[error(
        "Postgres's server programs (initdb and postgres, version 14 or later) were not found{}. Install them:\n\
         \x20 Debian, Ubuntu: apt-get install postgresql\n\
         \x20 Fedora:         dnf install postgresql-server\n\
         \x20 macOS:          brew install postgresql@17\n\
         or set PG_BIN to the directory that holds them.",
        .looked_in.as_ref().map(|dir| format!(" in PG_BIN={}", dir.display())).unwrap_or_default()
    )]
    ProgramsMissing {
        /// The only directory that was looked in, when the caller named one.
        looked_in: Option<PathBuf>,
    },
    /// The data was written by a version that is not installed.
    #[error(
        "{} was written by Postgres {data}, but only {found} is installed. \
         Install Postgres {data}, or delete that directory to start with an empty database.", .dir.display()
    )]
    OtherVersion {
        /// The data directory.
        dir: PathBuf,
        /// Major version that wrote it.
        data: u32,
        /// Major versions found, separated by commas.
        found: String,
    },
    /// `initdb` failed.
    #[error("initdb failed:\n{output}")]
    Initdb {
        /// What it printed.
        output: String,
    },
    /// The server ended, or did not accept connections in time.
    #[error("Postgres did not get ready. The end of {}:\n{tail}", .log.display())]
    NotReady {
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// Another process holds the directory and its server does not get ready, or does not end.
    #[error("{} is in use by another process, whose Postgres does not answer", .dir.display())]
    InUse {
        /// The server's directory.
        dir: PathBuf,
    },
    /// The directory is another account's, or holds something else.
    #[error("{} belongs to another account or holds other files: name a directory for Postgres alone", .dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// Postgres refuses to run as root and there is no other account to run it.
    #[error("Postgres refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody` to run it")]
    NoAccount,
    /// The system refused something.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
