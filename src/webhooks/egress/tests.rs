//! Requests to servers of the tests' own on loopback, names that resolve by script, and listeners that
//! nobody may connect to.

mod addresses;
mod failures;
mod limits;
mod names;
mod property;
mod reading;

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::Mutex,
};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::*;
use crate::webhooks::Rejection;

/// Answers look-ups with a script of address lists, and counts them.
struct Script(Mutex<VecDeque<Vec<IpAddr>>>);

impl Script {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |text: &&str| text.parse().expect("an address");
        Arc::new(Self(Mutex::new(answers.iter().map(|list| list.iter().map(parse).collect()).collect())))
    }

    fn push(&self, addresses: Vec<IpAddr>) {
        self.0.lock().expect("not poisoned").push_back(addresses);
    }

    fn left(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }
}

impl Lookup for Script {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let next = self.0.lock().expect("not poisoned").pop_front().expect("no more look-ups than scripted");
        Box::pin(async move { Ok(next.into_iter().map(|address| SocketAddr::new(address, 0)).collect()) })
    }
}

/// Every name is this machine.
struct Loopback;

impl Lookup for Loopback {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
    }
}

/// Listens where nobody may connect: on every address of this machine.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    fn was_dialled(&self) -> bool {
        self.0.accept().is_ok()
    }
}

/// A server for one connection.
struct Server<T> {
    port: u16,
    end: oneshot::Receiver<T>,
}

impl<T: Send + 'static> Server<T> {
    /// Serves it with `serve` from its first byte on.
    fn raw(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (ended, end) = oneshot::channel();
        // Not waited for when the test fails: nobody may ever connect.
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the request under test");
            drop(listener);
            let _ = ended.send(serve(stream));
        });
        Self { port, end }
    }

    /// Serves it with `serve` once the request's head arrived.
    fn http(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        Self::raw(|mut stream| {
            read_head(&mut stream);
            serve(stream)
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    async fn end(self) -> T {
        self.end.await.expect("the server is well")
    }
}

/// Up to the blank line, or to the end.
fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn local() -> Egress {
    Egress::new(true).expect("TLS works")
}

async fn post(egress: &Egress, mode: Mode, url: &str) -> Result<Answer, SendError> {
    post_by(egress, egress.rules(mode), url).await
}

async fn post_by(egress: &Egress, rules: Rules, url: &str) -> Result<Answer, SendError> {
    egress.post(rules, url, HeaderMap::new(), Vec::new()).await
}

#[test]
fn what_is_kept_can_be_stored() {
    assert_eq!(kept(b"a\0b\xff"), "ab\u{fffd}");
    let wide = "\u{20b9}".repeat(1000);
    assert_eq!(kept(wide.as_bytes()), "\u{20b9}".repeat(341));
}
