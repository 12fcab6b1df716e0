//! Where events may be sent: rules on an endpoint's URL and on the addresses behind it. Pure.
//!
//! An endpoint's URL is chosen by a stranger and called from inside our network; without these rules it
//! could be pointed at a metadata service or a database.

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
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(Rejection::Malformed);
        }
        let (_, after_scheme) = text.split_once("://").ok_or(Rejection::Malformed)?;
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Rules = Rules { mode: Mode::Test, private_allowed: false };
    const LIVE: Rules = Rules { mode: Mode::Live, private_allowed: false };
    const LOCAL: Rules = Rules { mode: Mode::Test, private_allowed: true };

    /// Forbidden hosts, in every notation that some parser takes.
    const FORBIDDEN_HOSTS: &[&str] = &[
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "0",
        "0.0.0.0",
        "10.1.2.3",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[100::1]",
        "[2001::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[2001:db8::1]",
        "[2002:7f00:1::]",
        "[2002:808:808::]",
        "[3fff::1]",
        "[3fff:fff:ffff::1]",
        "[fd00:ec2::254]",
        "[fc00::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[5f00::1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "a.localhost",
    ];

    #[test]
    fn forbidden_hosts_are_rejected_in_every_notation() {
        for host in FORBIDDEN_HOSTS {
            for rules in [TEST, LIVE] {
                let rejection = rules.vet_url(&format!("https://{host}/hook"));
                assert_eq!(rejection.err(), Some(Rejection::Address), "{host} in {rules:?}");
            }
        }
    }

    #[test]
    fn public_hosts_are_admitted() {
        for host in [
            "example.com",
            "hooks.example.co.in",
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "[2606:4700::1111]",
            "[2001:4860:4860::8888]",
            "[64:ff9b::8.8.8.8]",
            "[::ffff:8.8.8.8]",
            "xn--bcher-kva.example",
            "notlocalhost",
        ] {
            let url = format!("https://{host}/hook?a=b");
            assert!(LIVE.vet_url(&url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_shape_of_the_url_is_checked() {
        use Rejection::{Address, Fragment, Malformed, NotHttps, Port, TooLong, UserInfo};
        let long = format!("https://example.com/{}", "a".repeat(2048));
        for (text, rejection) in [
            ("", Malformed),
            ("example.com/hook", Malformed),
            ("/hook", Malformed),
            ("https:example.com", Malformed),
            ("https:/example.com", Malformed),
            ("https://", Malformed),
            ("ftp://example.com/", Malformed),
            ("file:///etc/passwd", Malformed),
            ("javascript://example.com/%0aalert(1)", Malformed),
            ("http://example.com/hook", NotHttps),
            ("https://user@example.com/", UserInfo),
            ("https://user:secret@example.com/", UserInfo),
            ("https://@example.com/", UserInfo),
            ("https://example.com@127.0.0.1/", UserInfo),
            ("https://example.com/#part", Fragment),
            ("https://example.com/#", Fragment),
            ("https://exa\tmple.com/", Malformed),
            ("https://example.com/\n", Malformed),
            (" https://example.com/", Malformed),
            ("https:\\\\example.com\\", Malformed),
            ("https://127.0.0.1\\@example.com/", Malformed),
            ("https://example.com:99999/", Malformed),
            ("https://example.com:8080/", Port),
            ("https://example.com:22/", Port),
            ("https://256.1.1.1/", Malformed),
            ("https://[::1/", Malformed),
            ("https://[fe80::1%25eth0]/", Malformed),
            ("https://127.0.0.1/", Address),
            (&long, TooLong),
        ] {
            assert_eq!(LIVE.vet_url(text).err(), Some(rejection), "{text:?}");
        }
        for text in ["https://example.com", "HTTPS://EXAMPLE.COM:8443/a@b", "https://example.com:443/"] {
            assert!(LIVE.vet_url(text).is_ok(), "{text}");
        }
        assert!(TEST.vet_url("https://example.com:9000/").is_ok(), "ports are free in test environments");
    }

    #[test]
    fn development_reaches_its_own_machine_and_network_only() {
        assert_eq!(Rules::new(Mode::Live, true), LIVE, "the setting never applies to live environments");
        for text in [
            "http://127.0.0.1:3000/",
            "http://localhost:3000/",
            "http://[::1]:3000/",
            "http://192.168.1.10/",
            "http://172.17.0.2/",
            "https://example.com/",
        ] {
            assert!(LOCAL.vet_url(text).is_ok(), "{text}");
        }
        for text in
            ["http://169.254.169.254/", "http://0.0.0.0/", "http://[fd00:ec2::254]/", "http://100.64.0.1/"]
        {
            assert_eq!(LOCAL.vet_url(text).err(), Some(Rejection::Address), "{text}");
        }
    }
}
