//! Names become addresses here, and only addresses that may be connected to come out.

use std::{io, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::webhooks::Rules;

/// Finds the addresses of a host.
pub trait Lookup: Send + Sync {
    /// Every address of `host`; the port is not used. An error of the kind `TimedOut` says that nobody answered.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// Answers with a host's addresses only when every one of them is allowed: with a mixed answer, a second
/// look-up or a retry could land on the bad one.
///
/// What comes out is what is connected to, without a second look-up in between. A connection that is reused
/// leads where it led when it was made: to an address that was vetted then.
pub(super) struct VettedResolver {
    pub(super) rules: Rules,
    pub(super) lookup: Arc<dyn Lookup>,
}

/// The name leads to an address that is not allowed.
#[derive(Debug, thiserror::Error)]
#[error("forbidden address")]
pub(super) struct ForbiddenAddress;

/// The name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("unresolved name")]
pub(super) struct Unresolved(#[source] Option<io::Error>);

/// Whether the name leads anywhere is not known.
#[derive(Debug, thiserror::Error)]
#[error("look-up timed out")]
pub(super) struct LookupTimedOut;

impl Resolve for VettedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, found) = (self.rules, self.lookup.lookup(name.as_str().to_owned()));
        Box::pin(async move {
            let addresses = match found.await {
                Ok(addresses) => addresses,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(LookupTimedOut.into()),
                Err(error) => return Err(Unresolved(Some(error)).into()),
            };
            if addresses.is_empty() {
                return Err(Unresolved(None).into());
            }
            if addresses.iter().all(|address| rules.admits(address.ip())) {
                Ok(Box::new(addresses.into_iter()) as Addrs)
            } else {
                Err(ForbiddenAddress.into())
            }
        })
    }
}
