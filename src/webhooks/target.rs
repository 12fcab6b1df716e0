//! Where events may be sent: rules on an endpoint's URL and on the addresses behind it. Pure.
//!
//! An endpoint's URL is chosen by a stranger and called from inside our network; without these rules it
//! could be pointed at a metadata service or a database.

#[cfg(test)]
pub(super) mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::tenancy::Mode;

const MAX_URL_CHARACTERS: usize = 2048;
const LIVE_PORTS: [u16; 2] = [443, 8443];

/// What an environment may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    mode: Mode,
    private_allowed: bool,
}

impl Rules {
    /// `allow_private` is the operator's setting for development; it never applies to a live environment.
    pub fn new(mode: Mode, allow_private: bool) -> Self {
        Self { mode, private_allowed: allow_private && mode == Mode::Test }
    }

    /// Whether http, loopback and private addresses are allowed.
    pub fn private_allowed(self) -> bool {
        self.private_allowed
    }

    /// The URL that `text` is, when it may be a target. The host's name is not resolved here; an address
    /// written out is vetted here and nowhere else, because HTTP clients resolve names only.
    pub fn vet_url(self, text: &str) -> Result<Url, Rejection> {
        if text.chars().count() > MAX_URL_CHARACTERS {
            return Err(Rejection::TooLong);
        }
        // The parser repairs these silently, and another parser may repair them otherwise.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || is_invisible(c) || c == '\\') {
            return Err(Rejection::Malformed);
        }
        let (_, after_scheme) = text.split_once("://").ok_or(Rejection::Malformed)?;
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
        // The parser skips any number of slashes, and would find a host behind them.
        if authority.is_empty() {
            return Err(Rejection::Malformed);
        }
        if authority.contains('@') {
            return Err(Rejection::UserInfo);
        }
        let url = Url::parse(text).map_err(|_| Rejection::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if self.private_allowed => {}
            "http" => return Err(Rejection::NotHttps),
            _ => return Err(Rejection::Malformed),
        }
        if url.fragment().is_some() {
            return Err(Rejection::Fragment);
        }
        if url.port() == Some(0) {
            return Err(Rejection::Malformed);
        }
        if self.mode == Mode::Live
            && !url.port_or_known_default().is_some_and(|port| LIVE_PORTS.contains(&port))
        {
            return Err(Rejection::Port);
        }
        self.vet_host(&url.host().ok_or(Rejection::Malformed)?)?;
        Ok(url)
    }

    fn vet_host(self, host: &Host<&str>) -> Result<(), Rejection> {
        let allowed = match host {
            Host::Ipv4(address) => self.admits((*address).into()),
            Host::Ipv6(address) => self.admits((*address).into()),
            Host::Domain(name) => self.private_allowed || !is_localhost(name),
        };
        if allowed { Ok(()) } else { Err(Rejection::Address) }
    }

    /// Whether a connection to `address` may be made.
    pub fn admits(self, address: IpAddr) -> bool {
        is_public(address) || (self.private_allowed && is_private(address))
    }
}

/// Why a URL cannot be a target; reads after the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not an absolute http(s) URL.
    #[error("must be an absolute https URL")]
    Malformed,
    /// http where only https will do.
    #[error("must start with https://")]
    NotHttps,
    /// Longer than 2,048 characters.
    #[error("must have at most 2048 characters")]
    TooLong,
    /// `user:password@`.
    #[error("must not contain a user name or password")]
    UserInfo,
    /// `#…`, which is never sent.
    #[error("must not contain a fragment")]
    Fragment,
    /// Another port than 443 and 8443 in a live environment.
    #[error("must use port 443 or 8443 in a live environment")]
    Port,
    /// Loopback, private or otherwise not on the public internet.
    #[error("must be a host on the public internet")]
    Address,
}

/// Soft hyphens, joiners, marks of direction and variation: a host written with them reads as another one.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// RFC 6761: resolvers are to answer these with loopback.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

fn is_public(address: IpAddr) -> bool {
    // ::ffff:a.b.c.d is a.b.c.d to the operating system.
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match translated(address) {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

/// Everything but the blocks of the IANA IPv4 Special-Purpose Address Registry, multicast and class E.
fn is_public_v4(address: Ipv4Addr) -> bool {
    ![
        v4(0, 0, 0, 0, 8),
        v4(10, 0, 0, 0, 8),
        v4(100, 64, 0, 0, 10),
        v4(127, 0, 0, 0, 8),
        v4(169, 254, 0, 0, 16),
        v4(172, 16, 0, 0, 12),
        v4(192, 0, 0, 0, 24),
        v4(192, 0, 2, 0, 24),
        v4(192, 31, 196, 0, 24),
        v4(192, 52, 193, 0, 24),
        v4(192, 88, 99, 0, 24),
        v4(192, 168, 0, 0, 16),
        v4(192, 175, 48, 0, 24),
        v4(198, 18, 0, 0, 15),
        v4(198, 51, 100, 0, 24),
        v4(203, 0, 113, 0, 24),
        v4(224, 0, 0, 0, 4),
        v4(240, 0, 0, 0, 4),
    ]
    .iter()
    .any(|block| block.contains(&address))
}

/// Global unicast without protocol assignments (Teredo among them), documentation and 6to4.
fn is_public_v6(address: Ipv6Addr) -> bool {
    v6(0x2000, 0, 3).contains(&address)
        && ![v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)]
            .iter()
            .any(|block| block.contains(&address))
}

/// The IPv4 address that a NAT64 gateway reaches for `64:ff9b::/96` (RFC 6052).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// Loopback and RFC 1918: where a developer's own receiver is. Not link-local, where metadata services are.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback(),
    }
}
