//! Only addresses that were vetted are connected to.

use super::*;

#[tokio::test]
async fn one_bad_address_rejects_them_all_and_nothing_is_dialled() {
    let canary = Canary::new();
    let answers: &[&[&str]] = &[
        &["127.0.0.1"],
        &["93.184.215.14", "127.0.0.1"],
        &["127.0.0.1", "93.184.215.14"],
        &["0.0.0.0"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2606:4700::1111", "fd00:ec2::254"],
        &["169.254.169.254"],
    ];
    let script = Script::new(answers);
    let egress = Egress::with_lookup(false, &(script.clone() as _)).expect("TLS works");
    for answer in answers {
        let sent = post(&egress, Mode::Test, &format!("https://rebound.example:{}/", canary.port())).await;
        assert_eq!(sent, Err(SendError::ForbiddenAddress), "{answer:?}");
    }
    assert_eq!(script.left(), 0, "every request looked its host up anew");
    assert!(!canary.was_dialled());
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_vetted_again() {
    let canary = Canary::new();
    let script = Script::new(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
    let egress = Egress::with_lookup(true, &(script as _)).expect("TLS works");
    let server = Server::http(|mut stream| {
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").expect("a reader");
    });
    let url = format!("http://rebound.example:{}/", server.port);
    assert_eq!(post(&egress, Mode::Test, &url).await.map(|answer| answer.status), Ok(StatusCode::NO_CONTENT));
    server.end().await;
    assert_eq!(post(&egress, Mode::Test, &url).await, Err(SendError::ForbiddenAddress));
    assert!(!canary.was_dialled());
    // The canary is a canary: where it is allowed, it is reached.
    let url = format!("http://rebound.example:{}/", canary.port());
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        while !canary.was_dialled() {
            std::thread::yield_now();
        }
        let _ = ended.send(());
    });
    assert!(matches!(post(&egress, Mode::Test, &url).await, Err(SendError::Failed(_))));
    end.await.expect("the canary is well");
}

#[tokio::test]
async fn a_reused_connection_leads_to_the_address_that_was_vetted_and_a_new_one_is_vetted() {
    // The name is this machine while it may be; then it moves to where nobody may go.
    let script = Script::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let egress = Egress::with_lookup(true, &(script.clone() as _)).expect("TLS works");
    let server = Server::raw(|mut stream| {
        for connection in ["keep-alive", "close"] {
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: {connection}\r\n\r\nok")
                .expect("a reader");
        }
    });
    let url = format!("http://rebound.example:{}/", server.port);
    for _ in 0..2 {
        assert_eq!(post(&egress, Mode::Test, &url).await.expect("an answer").body, "ok");
        // The client's tasks put the connection aside.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(script.left(), 1, "the second request went the way of the first, without a look-up");
    server.end().await;
    assert_eq!(post(&egress, Mode::Test, &url).await, Err(SendError::ForbiddenAddress));
    assert_eq!(script.left(), 0);
}

#[tokio::test]
async fn a_connection_to_a_private_address_is_not_lent_to_those_who_may_not_make_one() {
    let identity = failures::Identity::new(&["rebound.example"], |_| {});
    let script = Script::new(&[&["127.0.0.1"], &["127.0.0.1"]]);
    let setup = Setup { lookup: script.clone(), extra_roots: vec![identity.authority()], ..Setup::default() };
    let egress = Egress::build(true, &setup).expect("TLS works");
    let server = Server::raw(move |stream| {
        let mut stream = identity.accept(stream);
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("a reader");
        read_head(&mut stream)
    });
    let url = format!("https://rebound.example:{}/", server.port);
    assert_eq!(post(&egress, Mode::Test, &url).await.expect("an answer").body, "ok");
    let strict = Rules::new(Mode::Test, false);
    assert_eq!(post_by(&egress, strict, &url).await, Err(SendError::ForbiddenAddress));
    drop(egress);
    assert_eq!(server.end().await, "", "nothing more came on the connection");
}

#[tokio::test]
async fn literal_addresses_never_reach_the_resolver_and_are_vetted_all_the_same() {
    let canary = Canary::new();
    let egress = Egress::with_lookup(true, &(Script::new(&[]) as _)).expect("TLS works");
    for host in crate::webhooks::target::tests::FORBIDDEN_HOSTS {
        let url = format!("https://{host}:{}/", canary.port());
        let sent = post_by(&egress, Rules::new(Mode::Test, false), &url).await;
        assert_eq!(sent, Err(SendError::Rejected(Rejection::Address)), "{host}");
        for port in ["", ":443", ":8443"] {
            let sent = post(&egress, Mode::Live, &format!("https://{host}{port}/")).await;
            assert_eq!(sent, Err(SendError::Rejected(Rejection::Address)), "{host} in a live environment");
        }
    }
    assert!(!canary.was_dialled());
}

#[tokio::test]
async fn the_operators_permission_does_not_reach_live_environments() {
    let answers: &[&[&str]] = &[&["127.0.0.1"], &["10.0.0.1"], &["::1"], &["93.184.215.14", "192.168.1.1"]];
    let script = Script::new(answers);
    let egress = Egress::with_lookup(true, &(script.clone() as _)).expect("TLS works");
    for answer in answers {
        let sent = post(&egress, Mode::Live, "https://rebound.example:8443/").await;
        assert_eq!(sent, Err(SendError::ForbiddenAddress), "{answer:?}");
    }
    assert_eq!(script.left(), 0);
    let plain = post(&egress, Mode::Live, "http://rebound.example/").await;
    assert_eq!(plain, Err(SendError::Rejected(Rejection::NotHttps)));
}

#[tokio::test]
async fn redirects_are_answers() {
    let canary = Canary::new();
    let places = [
        format!("http://127.0.0.1:{}/", canary.port()),
        format!("https://localhost:{}/", canary.port()),
        "https://elsewhere.example/".to_owned(),
        "/other".to_owned(),
        "//elsewhere.example/".to_owned(),
    ];
    // Nothing but the endpoint itself is looked up.
    let script = Script::new(&[]);
    let egress = Egress::with_lookup(true, &(script.clone() as _)).expect("TLS works");
    for status in [301, 302, 303, 307, 308] {
        for place in &places {
            script.push(vec![[127, 0, 0, 1].into()]);
            let answer = format!(
                "HTTP/1.1 {status} Elsewhere\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let server = Server::http(move |mut stream| {
                stream.write_all(answer.as_bytes()).expect("a reader");
                read_head(&mut stream)
            });
            let url = format!("http://moved.example:{}/", server.port);
            let answer = post(&egress, Mode::Test, &url).await;
            assert_eq!(answer.expect("an answer").status.as_u16(), status, "to {place}");
            assert_eq!(server.end().await, "", "one request");
        }
    }
    assert!(!canary.was_dialled());
}
