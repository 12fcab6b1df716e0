//! Ten thousand forbidden addresses, written in every way that some parser takes and resolved in every
//! company: none is dialled.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;

const CASES: usize = 10_000;

/// First address and prefix length, from the RFCs and not from our rules.
const FORBIDDEN_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),          // "this network", RFC 791
    ([10, 0, 0, 0], 8),         // private, RFC 1918
    ([172, 16, 0, 0], 12),      // private
    ([192, 168, 0, 0], 16),     // private
    ([100, 64, 0, 0], 10),      // shared by carriers, RFC 6598
    ([127, 0, 0, 0], 8),        // loopback, RFC 1122
    ([127, 0, 0, 1], 32),       // where most services are
    ([169, 254, 0, 0], 16),     // link-local, RFC 3927
    ([169, 254, 169, 254], 32), // metadata of most clouds
    ([100, 100, 100, 200], 32), // metadata of one more
    ([192, 0, 0, 0], 24),       // protocol assignments, RFC 6890
    ([192, 0, 2, 0], 24),       // documentation, RFC 5737
    ([198, 51, 100, 0], 24),    // documentation
    ([203, 0, 113, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),     // 6to4 relays, RFC 7526
    ([198, 18, 0, 0], 15),      // benchmarks, RFC 2544
    ([224, 0, 0, 0], 4),        // multicast, RFC 5771
    ([240, 0, 0, 0], 4),        // class E and broadcast, RFC 1112
];
const FORBIDDEN_V6: &[(&str, u32)] = &[
    ("::", 128),
    ("::1", 128),
    ("::", 96),             // IPv4-compatible, RFC 4291
    ("::ffff:0:0:0", 96),   // IPv4-translated, RFC 2765
    ("64:ff9b:1::", 48),    // NAT64 of one's own, RFC 8215
    ("100::", 64),          // discard, RFC 6666
    ("2001::", 32),         // Teredo, RFC 4380
    ("2001:2::", 48),       // benchmarks, RFC 5180
    ("2001:10::", 28),      // ORCHID, RFC 4843
    ("2001:20::", 28),      // ORCHIDv2, RFC 7343
    ("2001:db8::", 32),     // documentation, RFC 3849
    ("2002::", 16),         // 6to4, RFC 3056
    ("3fff::", 20),         // documentation, RFC 9637
    ("5f00::", 16),         // segment routing, RFC 9602
    ("fc00::", 7),          // unique local, RFC 4193
    ("fd00:ec2::254", 128), // metadata of a cloud
    ("fe80::", 10),         // link-local, RFC 4291
    ("fec0::", 10),         // site-local, RFC 3879
    ("ff00::", 8),          // multicast
    ("4000::", 3),          // not assigned
    ("c000::", 4),          // not assigned
];

fn forbidden_v4(random: &mut StdRng) -> Ipv4Addr {
    let (first, length) = FORBIDDEN_V4.choose(random).expect("not empty");
    let free = random.random::<u32>().checked_shr(*length).unwrap_or(0);
    Ipv4Addr::from_bits(u32::from_be_bytes(*first) | free)
}

fn forbidden_v6(random: &mut StdRng) -> Ipv6Addr {
    let high = |prefix: u128, v4: Ipv4Addr| Ipv6Addr::from_bits(prefix | u128::from(v4.to_bits()));
    match random.random_range(0..4) {
        0 => forbidden_v4(random).to_ipv6_mapped(),
        // NAT64, RFC 6052
        1 => high(0x0064_ff9b << 96, forbidden_v4(random)),
        _ => {
            let (first, length) = FORBIDDEN_V6.choose(random).expect("not empty");
            let first: Ipv6Addr = first.parse().expect("an address");
            Ipv6Addr::from_bits(first.to_bits() | random.random::<u128>().checked_shr(*length).unwrap_or(0))
        }
    }
}

fn forbidden(random: &mut StdRng) -> IpAddr {
    if random.random() { forbidden_v4(random).into() } else { forbidden_v6(random).into() }
}

fn public(random: &mut StdRng) -> IpAddr {
    if random.random() {
        [93, 184, random.random(), random.random()].into()
    } else {
        Ipv6Addr::from_bits(0x2606_4700 << 96 | u128::from(random.random::<u64>())).into()
    }
}

/// One to four numbers, each decimal, octal or hexadecimal, the last one for all the bytes that are left.
fn v4_notation(random: &mut StdRng, address: Ipv4Addr) -> String {
    let parts = random.random_range(1..=4);
    let mut numbers: Vec<u32> = address.octets()[..parts - 1].iter().map(|byte| u32::from(*byte)).collect();
    let covered = 8 * u32::try_from(numbers.len()).expect("at most three");
    numbers.push(address.to_bits() & u32::MAX.checked_shr(covered).unwrap_or(0));
    let mut texts = numbers.into_iter().map(|number| {
        let zeros = "0".repeat(random.random_range(0..3));
        match random.random_range(0..4) {
            0 => number.to_string(),
            1 => format!("0{zeros}{number:o}"),
            2 => format!("0x{zeros}{number:x}"),
            _ => format!("0X{zeros}{number:X}"),
        }
    });
    let mut text = texts.by_ref().collect::<Vec<_>>().join(".");
    if random.random_bool(0.1) {
        text.push('.');
    }
    if random.random_bool(0.3) { disguised(random, &text) } else { text }
}

/// Other characters that are read as the same ones.
fn disguised(random: &mut StdRng, text: &str) -> String {
    let mut disguised = String::new();
    for c in text.chars() {
        match random.random_range(0..4) {
            0 if c == '.' => disguised.push(*['。', '．', '｡'].choose(random).expect("three")),
            0 if c.is_ascii_alphanumeric() => {
                disguised.push(char::from_u32(u32::from(c) + 0xfee0).expect("its fullwidth form"));
            }
            1 => write!(disguised, "%{:02x}", u32::from(c)).expect("a string takes it"),
            _ => disguised.push(c),
        }
    }
    disguised
}

fn v6_notation(random: &mut StdRng, address: Ipv6Addr) -> String {
    let segments = address.segments();
    let joined = |segments: &[u16], write: fn(&u16) -> String| -> String {
        segments.iter().map(write).collect::<Vec<_>>().join(":")
    };
    let text = match random.random_range(0..4) {
        0 => address.to_string(),
        1 => joined(&segments, |segment| format!("{segment:04x}")),
        2 => joined(&segments, |segment| format!("{segment:X}")),
        _ => {
            let last = Ipv4Addr::from_bits(u32::from(segments[6]) << 16 | u32::from(segments[7]));
            format!("{}:{last}", joined(&segments[..6], |segment| format!("{segment:x}")))
        }
    };
    format!("[{text}]")
}

fn literal(random: &mut StdRng) -> String {
    match forbidden(random) {
        IpAddr::V4(address) => v4_notation(random, address),
        IpAddr::V6(address) => v6_notation(random, address),
    }
}

/// Some addresses, at least one of them forbidden.
fn answer(random: &mut StdRng) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = (0..random.random_range(0..3)).map(|_| public(random)).collect();
    addresses.insert(random.random_range(0..=addresses.len()), forbidden(random));
    addresses
}

#[tokio::test]
async fn no_forbidden_address_is_dialled_however_it_is_written_or_resolved() {
    let mut random = StdRng::seed_from_u64(30);
    let canary = Canary::new();
    let script = Script::new(&[]);
    // The operator's permission is there: it must not reach those who do not have it.
    let egress = Egress::with_lookup(true, &(script.clone() as _)).expect("TLS works");
    let (live, test) = (egress.rules(Mode::Live), Rules::new(Mode::Test, false));
    for case in 0..CASES {
        let (rules, port) = if random.random() { (live, 8443) } else { (test, canary.port()) };
        if case % 2 == 0 {
            let url = format!("https://{}:{port}/", literal(&mut random));
            let sent = post_by(&egress, rules, &url).await;
            assert_eq!(sent, Err(SendError::Rejected(Rejection::Address)), "{url}");
        } else {
            let answer = answer(&mut random);
            script.push(answer.clone());
            let sent = post_by(&egress, rules, &format!("https://rebound.example:{port}/")).await;
            assert_eq!(sent, Err(SendError::ForbiddenAddress), "{answer:?}");
        }
    }
    assert_eq!(script.left(), 0);
    assert!(!canary.was_dialled());
}
