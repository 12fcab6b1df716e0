use super::*;

const TEST: Rules = Rules { mode: Mode::Test, private_allowed: false };
const LIVE: Rules = Rules { mode: Mode::Live, private_allowed: false };
const LOCAL: Rules = Rules { mode: Mode::Test, private_allowed: true };

/// Forbidden hosts, in every notation that some parser takes.
pub const FORBIDDEN_HOSTS: &[&str] = &[
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
        ("https:///example.com/", Malformed),
        ("https:///user:secret@example.com/", Malformed),
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
        ("https://exam\u{ad}ple.com/", Malformed),
        ("https://exam\u{200b}ple.com/", Malformed),
        ("https://\u{202e}moc.elpmaxe/", Malformed),
        ("https://example.com/\u{feff}", Malformed),
        ("https://xn--localhost-/", Malformed),
        ("https://example.com:0/", Malformed),
        ("https://example.com:-1/", Malformed),
        ("https://example.com:０４４３/", Malformed),
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
    assert_eq!(TEST.vet_url("https://example.com:0/").err(), Some(Malformed));
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
