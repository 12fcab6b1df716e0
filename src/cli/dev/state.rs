//! What `dev` remembers between starts: files under `.checkoutd`, readable by their owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::Rng;
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};

/// Creates the folder where it is missing; its absolute path.
pub fn open(folder: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Nothing in here belongs into a repository.
    write(&folder.join(".gitignore"), b"*\n")?;
    Ok(folder.canonicalize()?)
}

/// The key that seals this machine's secrets, made on the first start.
pub fn encryption_key(folder: &Path) -> anyhow::Result<SecretString> {
    let path = folder.join("encryption.key");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned().into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            rand::rng().fill_bytes(&mut bytes);
            let text = STANDARD.encode(bytes);
            write(&path, text.as_bytes())?;
            Ok(text.into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Reads a JSON file; `None` when it is missing or not what it should be.
pub fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a JSON file.
pub fn save<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    write(path, &serde_json::to_vec_pretty(value)?)
}

/// Written beside and moved over, so that a crash leaves the old or the new file.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}
