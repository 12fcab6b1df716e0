//! What both the control API and the Rust API do to a sandbox.

use super::SandboxError;
use super::account::Account;
use super::charge::{Charge, PaidInfo, PayRequest};
use super::server::Shared;

pub(super) fn put_account(shared: &Shared, account: Account) -> Result<String, SandboxError> {
    if account.key_id.is_empty() || account.key_id.contains(':') {
        return Err(SandboxError::InvalidAccount("key_id must not be empty nor contain a colon"));
    }
    Ok(shared.books().put_account(account).account_id.clone())
}

pub(super) fn pay(shared: &Shared, link: &str, request: PayRequest) -> Result<PaidInfo, SandboxError> {
    let mut books = shared.books();
    let index = books.find_link(link)?;
    books.charge(index, &Charge::from(request))
}

pub(super) fn cancel(shared: &Shared, link: &str) -> Result<(), SandboxError> {
    let mut books = shared.books();
    let index = books.find_link(link)?;
    books.cancel(index).map_err(SandboxError::Refused)
}

pub(super) fn expire(shared: &Shared, link: &str) -> Result<(), SandboxError> {
    let mut books = shared.books();
    let index = books.find_link(link)?;
    books.expire(index).map_err(SandboxError::Refused)
}
