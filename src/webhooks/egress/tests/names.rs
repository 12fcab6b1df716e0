//! Names, looked up at a name server of the tests' own.

mod server;

use hickory_resolver::{Hosts, proto::op::ResponseCode};
use reqwest::dns::Resolve;

use super::*;
use server::{NameServer, Reply};

/// Longer than any test waits.
const LONG: Duration = Duration::from_mins(10);

/// Asks `server` and waits for as long as it takes.
fn patient(server: &NameServer) -> Dns {
    Dns::new(vec![server.address()], Hosts::default(), LONG, LONG)
}

fn by(allow_private: bool, dns: Dns) -> Egress {
    Egress::with_lookup(allow_private, &(Arc::new(dns) as _)).expect("TLS works")
}

async fn addresses(dns: &Dns, host: &str) -> io::Result<Vec<String>> {
    let found = dns.lookup(host.to_owned()).await?;
    Ok(found.into_iter().map(|address| address.ip().to_string()).collect())
}

fn is_hanging(name: &str) -> bool {
    name.starts_with("hanging")
}

#[test]
fn names_that_hang_cost_no_thread_and_delay_no_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        // As when as many names hang as there are threads for the operating system's resolver.
        let (release, released) = std::sync::mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || released.recv());
        let server = NameServer::start(|name, _| match name {
            name if is_hanging(name) => Reply::None,
            _ => Reply::addresses(60, &["192.0.2.7"]),
        });
        let dns = Arc::new(patient(&server));
        let mut hanging = tokio::task::JoinSet::new();
        let asked = || server.asked().iter().filter(|(name, _)| is_hanging(name)).count();
        // Not all at once: the server's socket drops what it has no room for.
        for round in 1..=6 {
            for number in 0..50 {
                hanging.spawn(dns.lookup(format!("hanging{round}-{number}.example")));
            }
            // For both families.
            while asked() < 100 * round {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(addresses(&dns, "good.example").await.expect("found"), ["192.0.2.7"]);
        assert_eq!(addresses(&dns, "localhost").await.expect("found"), ["127.0.0.1", "::1"]);
        assert!(hanging.try_join_next().is_none(), "none of the others has ended");
        assert_eq!(hanging.len(), 300);
        drop(release);
        let _ = taken.await.expect("the thread ends");
    });
}

#[tokio::test]
async fn what_came_of_a_look_up_is_told_to_the_merchant() {
    let server = NameServer::start(|name, _| match name {
        "missing.example." => Reply::Code(ResponseCode::NXDomain),
        "failing.example." => Reply::Code(ResponseCode::ServFail),
        "refusing.example." => Reply::Code(ResponseCode::Refused),
        "empty.example." => Reply::Records(Vec::new()),
        "circle.example." => Reply::alias("circle.example."),
        _ => Reply::None,
    });
    let egress = by(false, patient(&server));
    for host in ["missing", "failing", "refusing", "empty", "circle"] {
        let sent = post(&egress, Mode::Test, &format!("https://{host}.example/")).await;
        let text = sent.expect_err("a failure").to_string();
        assert_eq!(text, "could not connect: the host name does not resolve", "{host}");
    }
    let label = "a".repeat(64);
    let sent = post(&egress, Mode::Test, &format!("https://{label}.example/")).await;
    assert!(matches!(sent, Err(SendError::Failed(_))), "{sent:?}");

    let soon = Duration::from_millis(100);
    let too_late = "could not connect: the host name could not be looked up in time";
    for (query_timeout, timeout) in [(soon, LONG), (LONG, soon)] {
        let dns = Dns::new(vec![server.address()], Hosts::default(), query_timeout, timeout);
        let sent = post(&by(false, dns), Mode::Test, "https://hanging.example/").await;
        assert_eq!(sent.expect_err("a failure").to_string(), too_late);
    }
}

#[tokio::test]
async fn an_answer_that_leads_inside_is_refused_however_it_does() {
    let canary = Canary::new();
    let server = NameServer::start(|name, family| match (name, family) {
        ("alias.example.", _) => Reply::alias("inside.example."),
        ("chain.example.", _) => Reply::alias("alias.example."),
        ("inside.example." | "two.example.", "A") => Reply::addresses(60, &["127.0.0.3"]),
        ("mixed.example.", "A") => Reply::addresses(60, &["93.184.215.14", "127.0.0.3"]),
        ("six.example.", "A") => Reply::addresses(60, &["93.184.215.14"]),
        ("six.example.", "AAAA") => Reply::addresses(60, &["::1"]),
        ("mapped.example.", "AAAA") => Reply::addresses(60, &["::ffff:127.0.0.3"]),
        ("long.example.", "A") => Reply::Truncated(vec!["127.0.0.3".parse().expect("an address")]),
        _ => Reply::Code(ResponseCode::NXDomain),
    });
    let egress = by(false, patient(&server));
    for host in ["inside", "two", "alias", "chain", "mixed", "six", "mapped", "long"] {
        let url = format!("https://{host}.example:{}/", canary.port());
        assert_eq!(post(&egress, Mode::Test, &url).await, Err(SendError::ForbiddenAddress), "{host}");
    }
    assert!(!canary.was_dialled());
}

#[tokio::test]
async fn a_name_that_moves_inside_is_not_followed() {
    let canary = Canary::new();
    let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = Arc::clone(&moved);
    let server = NameServer::start(move |_, family| {
        let inside = now.load(std::sync::atomic::Ordering::SeqCst);
        match (family, inside) {
            ("A", false) => Reply::addresses(0, &["93.184.215.14"]),
            ("A", true) => Reply::addresses(0, &["127.0.0.3"]),
            _ => Reply::Code(ResponseCode::NXDomain),
        }
    });
    let dns: Arc<dyn Lookup> = Arc::new(patient(&server));
    let rules = Rules::new(Mode::Test, false);
    let vetted = VettedResolver { rules, lookup: Arc::clone(&dns) };
    let found = vetted.resolve("rebound.example".parse().expect("a name")).await.expect("allowed");
    assert_eq!(found.map(|address| address.ip().to_string()).collect::<Vec<_>>(), ["93.184.215.14"]);
    moved.store(true, std::sync::atomic::Ordering::SeqCst);
    let egress = Egress::with_lookup(false, &dns).expect("TLS works");
    for _ in 0..2 {
        let url = format!("https://rebound.example:{}/", canary.port());
        assert_eq!(post(&egress, Mode::Test, &url).await, Err(SendError::ForbiddenAddress));
    }
    assert!(!canary.was_dialled());
}

#[tokio::test]
async fn answers_are_kept_for_as_long_as_they_may_be() {
    let server = NameServer::start(|name, family| match (name, family) {
        ("lasting.example.", "A") => Reply::addresses(60, &["192.0.2.7"]),
        ("passing.example.", "A") => Reply::addresses(0, &["192.0.2.7"]),
        ("failing.example.", _) => Reply::Code(ResponseCode::ServFail),
        _ => Reply::Absent { ttl_seconds: 60 },
    });
    let dns = patient(&server);
    for (host, found, questions) in
        // What failed is asked for once more each time, and is not kept.
        [("lasting", true, 1), ("passing", true, 3), ("missing", false, 1), ("failing", false, 6)]
    {
        for _ in 0..3 {
            assert_eq!(addresses(&dns, &format!("{host}.example")).await.is_ok(), found, "{host}");
        }
        let name = format!("{host}.example.");
        let asked =
            server.asked().into_iter().filter(|(asked, family)| *asked == name && family == "A").count();
        assert_eq!(asked, questions, "{host}");
    }
}

#[tokio::test]
async fn a_name_is_asked_for_as_it_is_written() {
    let server = NameServer::start(|_, _| Reply::Code(ResponseCode::NXDomain));
    let dns = patient(&server);
    let hosts = ["foo.com", "foo.com.", "db", "1.2.3.4.example", "a.b.c.d.e.f"];
    for host in hosts {
        assert!(addresses(&dns, host).await.is_err(), "{host}");
    }
    let asked: std::collections::BTreeSet<_> = server.asked().into_iter().map(|(name, _)| name).collect();
    assert_eq!(Vec::from_iter(asked), ["1.2.3.4.example.", "a.b.c.d.e.f.", "db.", "foo.com."]);
}

#[tokio::test]
async fn what_the_hosts_file_knows_no_name_server_is_asked_for() {
    let server = NameServer::start(|_, _| Reply::addresses(60, &["192.0.2.7", "192.0.2.8"]));
    let mut hosts = Hosts::default();
    let text =
        "# ours\n127.0.0.1 localhost\n10.1.2.3 Printer printer.corp # upstairs\nfd00::5 six\nnonsense x\n";
    hosts.read_hosts_conf(text.as_bytes()).expect("readable");
    let dns = Dns::new(vec![server.address()], hosts, LONG, LONG);
    for (host, found) in [
        ("printer", "10.1.2.3"),
        ("PRINTER.corp", "10.1.2.3"),
        ("printer.corp.", "10.1.2.3"),
        ("six", "fd00::5"),
        ("localhost", "127.0.0.1"),
    ] {
        assert_eq!(addresses(&dns, host).await.expect("found"), [found], "{host}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    assert_eq!(addresses(&dns, "x").await.expect("found").len(), 2);
    assert!(!server.asked().is_empty());
}

#[tokio::test]
async fn this_machine_is_reached_by_its_name_where_private_targets_are_allowed() {
    let server = Server::http(|mut stream| {
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").expect("a reader");
    });
    let url = format!("http://localhost:{}/", server.port);
    let answer = post(&local(), Mode::Test, &url).await;
    assert_eq!(answer.map(|answer| answer.status), Ok(StatusCode::NO_CONTENT));
    server.end().await;
}

#[tokio::test]
async fn a_name_server_that_is_silent_is_asked_twice_or_passed_over() {
    let soon = Duration::from_millis(300);
    let silent = NameServer::start(|_, _| Reply::None);
    let alone = Dns::new(vec![silent.address()], Hosts::default(), soon, LONG);
    let error = addresses(&alone, "good.example").await.expect_err("nobody answers");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    // One datagram, and so one socket, for each question that is open.
    assert_eq!(silent.asked().len(), 4, "{:?}", silent.asked());

    let speaking = NameServer::start(|_, _| Reply::addresses(60, &["192.0.2.7"]));
    let both = Dns::new(vec![silent.address(), speaking.address()], Hosts::default(), soon, LONG);
    assert_eq!(addresses(&both, "good.example").await.expect("found"), ["192.0.2.7"]);
}

#[tokio::test]
async fn an_answer_that_would_fill_the_cache_is_refused() {
    let many = |count: u8| (0..count).map(|number| IpAddr::from([192, 0, 2, number])).collect();
    let server = NameServer::start(move |name, family| match (name, family) {
        ("hundred.example.", "A") => Reply::Truncated(many(100)),
        ("crowd.example.", "A") => Reply::Truncated(many(200)),
        _ => Reply::Code(ResponseCode::NXDomain),
    });
    let dns = patient(&server);
    assert_eq!(addresses(&dns, "hundred.example").await.expect("found").len(), 100);
    assert!(addresses(&dns, "crowd.example").await.is_err());
}
