//! Where a server's files are, who runs it, and what state it is in.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::Error;

/// Only names the socket; no port is opened.
pub(super) const PORT: &str = "5432";
/// The system's limit is 104 to 108 bytes, and Postgres adds a lock file with a longer name.
const LONGEST_SOCKET_PATH: usize = 100;

/// Held by the process that owns the server; also marks a root as ours.
pub(super) const LOCK: &str = "lock";

/// An account that runs the server in place of root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A server's files.
#[derive(Debug)]
pub(super) struct Place {
    /// Holds everything else; nobody but the server's account may enter.
    pub root: PathBuf,
    /// What `initdb` fills.
    pub data: PathBuf,
    /// The root, or a shorter path.
    pub socket_dir: PathBuf,
    /// Set when this process is root.
    account: Option<Account>,
}

/// What the server's own files and socket say.
#[derive(Debug)]
pub(super) enum State {
    /// Accepts connections.
    Ready { pid: u32 },
    /// Starts or stops, if that process is still there.
    Changing { pid: u32 },
    /// Does not run, or died without tidying up.
    Gone,
}

impl Place {
    /// Creates the directories, or takes over existing ones that are fit for it.
    pub async fn prepare(dir: &Path) -> Result<Self, Error> {
        let mut root = canonical(dir)?;
        let hash = hex::encode(&Sha256::digest(root.as_os_str().as_encoded_bytes())[..8]);
        let uid = effective_uid().await?;
        let account = if uid == 0 {
            let (reachable_root, account) = root_and_account(root, &hash)?;
            root = reachable_root;
            Some(account)
        } else {
            None
        };
        if !is_ours_or_empty(&root) {
            return Err(Error::Foreign { dir: root });
        }
        make_private(&root, uid, account)?;
        let mut socket_dir = root.clone();
        if socket_path(&socket_dir).as_os_str().len() > LONGEST_SOCKET_PATH {
            socket_dir = PathBuf::from(format!("/tmp/checkoutd-{hash}"));
            make_private(&socket_dir, uid, account)?;
        }
        Ok(Self { data: root.join("data"), root, socket_dir, account })
    }

    /// The major version that wrote the data; `None` before the first start.
    pub fn data_version(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Where one attempt to create the data works.
    pub fn unfinished(&self, attempt: &str) -> PathBuf {
        self.root.join(format!("data.new-{attempt}"))
    }

    /// Removes what interrupted attempts left. What cannot be removed now waits for the next start.
    pub fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("data.new-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A program that runs as the server's account, free of the caller's `PG*` variables and locale. UTC spares
    /// `initdb` a search through all time zones, and Postgres on macOS needs a locale that is set.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(&self.root);
        #[expect(clippy::disallowed_methods, reason = "PATH is the system's, not configuration")]
        let path = std::env::var_os("PATH");
        if let Some(path) = path {
            command.env("PATH", path);
        }
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Looks at the socket first: once a new server listens there, it has replaced an old `postmaster.pid`.
    pub async fn state(&self) -> State {
        let listening = UnixStream::connect(socket_path(&self.socket_dir)).await.is_ok();
        let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = file.lines().map(str::trim).collect();
        // Line 2 is the data directory, which tells a copied file from ours; line 8 is the status.
        let (Some(Ok(pid)), Some(data)) = (lines.first().map(|pid| pid.parse()), lines.get(1)) else {
            return State::Gone;
        };
        if Path::new(data) != self.data {
            return State::Gone;
        }
        match (lines.get(7).copied(), listening) {
            (Some("ready"), true) => State::Ready { pid },
            (Some("ready"), false) => State::Gone,
            _ => State::Changing { pid },
        }
    }
}

fn socket_path(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// The one spelling of a directory that may not exist yet. Its parent is created.
fn canonical(dir: &Path) -> Result<PathBuf, Error> {
    let resolve = |dir: &Path| dir.canonicalize().map_err(Error::io("resolve", dir));
    if dir.exists() {
        return resolve(dir);
    }
    let absolute = std::path::absolute(dir).map_err(Error::io("resolve", dir))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::Foreign { dir: absolute });
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    Ok(resolve(parent)?.join(name))
}

/// The standard library has no call for it.
async fn effective_uid() -> Result<u32, Error> {
    let output = Command::new("id").arg("-u").output().await.map_err(Error::io("run", "id"))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|error| Error::io("run", "id")(std::io::Error::new(ErrorKind::InvalidData, error)))
}

/// For root: the account to run the server and a directory that it can reach.
fn root_and_account(root: PathBuf, hash: &str) -> Result<(PathBuf, Account), Error> {
    let owner = fs::metadata(&root)
        .ok()
        .filter(|metadata| metadata.uid() != 0)
        .map(|metadata| Account { uid: metadata.uid(), gid: metadata.gid() });
    let unprivileged = || {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        find_account(&passwd, "postgres").or_else(|| find_account(&passwd, "nobody")).ok_or(Error::NoAccount)
    };
    let account = owner.map_or_else(unprivileged, Ok)?;
    if root.ancestors().skip(1).all(|dir| can_enter(dir, account)) {
        return Ok((root, account));
    }
    let reachable = PathBuf::from(format!("/var/tmp/checkoutd-{hash}"));
    tracing::info!(wanted = %root.display(), used = %reachable.display(), "Postgres's account cannot reach its directory");
    Ok((reachable, unprivileged()?))
}

/// From lines such as `postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash`.
fn find_account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        Some(Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

fn can_enter(dir: &Path, account: Account) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| {
        let search_bit = match metadata {
            _ if metadata.uid() == account.uid => 0o100,
            _ if metadata.gid() == account.gid => 0o010,
            _ => 0o001,
        };
        metadata.mode() & search_bit != 0
    })
}

/// Keeps a mistyped path from changing who may enter, say, a home directory.
fn is_ours_or_empty(root: &Path) -> bool {
    !root.exists() || is_empty(root) || root.join(LOCK).exists()
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Creates the directory for the server's account alone. An existing one must be that account's already, or
/// be root's and empty: anybody may have put it there, and its path may be guessable.
fn make_private(dir: &Path, uid: u32, account: Option<Account>) -> Result<(), Error> {
    let wanted_uid = account.map_or(uid, |account| account.uid);
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io("create", dir)(source));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(dir).map_err(Error::io("read", dir))?;
    let fit = metadata.uid() == wanted_uid || (metadata.uid() == uid && is_empty(dir));
    if !metadata.is_dir() || !fit {
        return Err(Error::Foreign { dir: dir.to_owned() });
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(Error::io("protect", dir))?;
    if let Some(Account { uid, gid }) = account {
        lchown(dir, Some(uid), Some(gid)).map_err(Error::io("hand over", dir))?;
    }
    Ok(())
}
