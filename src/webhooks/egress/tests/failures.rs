//! Each way of failing has a text of its own, and none falls back to plaintext.

use reqwest::Certificate;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer};

use super::*;

/// A certificate of an authority of its own.
#[derive(Clone)]
pub struct Identity {
    server: Arc<ServerConfig>,
    authority: Vec<u8>,
}

impl Identity {
    /// For `hosts`, by an authority that a client can be told to trust.
    pub fn new(hosts: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = rcgen::CertificateParams::new(["authority.example".to_owned()]).expect("a name");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("randomness");
        // Two authorities of one name would be one authority with a wrong key.
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("{:x?}", &key.public_key_raw()[..16]));
        let authority = params.self_signed(&key).expect("signed").der().to_vec();
        let issuer = rcgen::Issuer::new(params, key);
        Self::signed(hosts, change, authority, |params, key| params.signed_by(key, &issuer))
    }

    /// By itself.
    fn self_signed(hosts: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        Self::signed(hosts, change, Vec::new(), rcgen::CertificateParams::self_signed)
    }

    fn signed(
        hosts: &[&str],
        change: impl FnOnce(&mut rcgen::CertificateParams),
        authority: Vec<u8>,
        sign: impl FnOnce(&rcgen::CertificateParams, &rcgen::KeyPair) -> Result<rcgen::Certificate, rcgen::Error>,
    ) -> Self {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "an endpoint");
        change(&mut params);
        let key = rcgen::KeyPair::generate().expect("randomness");
        let chain = vec![sign(&params, &key).expect("signed").der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .expect("a key and its certificate");
        Self { server: Arc::new(server), authority }
    }

    pub fn authority(&self) -> Certificate {
        Certificate::from_der(&self.authority).expect("a certificate")
    }

    pub fn speaking(mut self, protocol: &[u8]) -> Self {
        Arc::make_mut(&mut self.server).alpn_protocols = vec![protocol.to_vec()];
        self
    }

    pub fn accept(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        StreamOwned::new(ServerConnection::new(Arc::clone(&self.server)).expect("a set-up"), stream)
    }
}

const HOST: &str = "hooks.example";

fn trusting(authorities: Vec<Certificate>) -> Egress {
    let setup = Setup { lookup: Arc::new(Loopback), extra_roots: authorities, ..Setup::default() };
    Egress::build(true, &setup).expect("TLS works")
}

/// The text that the merchant is shown.
async fn failure(egress: &Egress, url: &str) -> String {
    let text = post(egress, Mode::Test, url).await.expect_err("a failure").to_string();
    assert!(!text.contains("127.0.0.1") && !text.contains("os error"), "{text}");
    text
}

#[tokio::test]
async fn a_bad_certificate_is_named_and_nothing_is_sent() {
    let good = Identity::new(&[HOST], |_| {});
    let expired = Identity::new(&[HOST], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let future = Identity::new(&[HOST], |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let foreign = Identity::new(&["other.example", "*.hooks.example"], |_| {});
    let authorities = [&good, &expired, &future, &foreign].map(Identity::authority).to_vec();
    let unknown = "the certificate is self-signed or of an unknown issuer, or an intermediate one is missing";
    let rows = [
        (expired, "the certificate has expired"),
        (future, "the certificate is not valid yet"),
        (foreign, "the certificate is for another host"),
        (Identity::self_signed(&[HOST], |_| {}), unknown),
        (Identity::new(&[HOST], |_| {}), unknown),
        (
            Identity::self_signed(&[HOST], |params| {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }),
            "the certificate is not valid (CaUsedAsEndEntity)",
        ),
    ];
    let egress = trusting(authorities);
    for (identity, text) in rows {
        let server = Server::raw(move |stream| read_head(&mut identity.accept(stream)));
        let url = format!("https://{HOST}:{}/", server.port);
        assert_eq!(failure(&egress, &url).await, format!("could not connect: {text}"));
        assert_eq!(server.end().await, "", "nothing was sent");
    }
    // The servers and the client are well: a good certificate is taken.
    let server = Server::raw(move |stream| {
        let mut stream = good.accept(stream);
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("a reader");
    });
    let answer = post(&egress, Mode::Test, &format!("https://{HOST}:{}/", server.port)).await;
    assert_eq!(answer.expect("an answer").status, StatusCode::OK);
    server.end().await;
}

/// An answer to the client's hello that settles on `version`, as a server that knows no other one gives.
fn server_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0xc0, 0x13, 0]); // ECDHE-RSA-AES128-CBC-SHA, no compression
    let length = u8::try_from(hello.len()).expect("short");
    let mut record = vec![0x16, version[0], version[1], 0, length + 4, 2, 0, 0, length];
    record.extend(hello);
    record
}

#[tokio::test]
async fn a_handshake_that_fails_says_how_and_never_falls_back_to_plaintext() {
    let modern = "TLS handshake failed: TLS 1.2 or 1.3 with a modern cipher is needed";
    let rows: &[(&str, Vec<u8>, &str)] = &[
        ("TLS 1.1", server_hello([3, 2]), modern),
        ("TLS 1.0", server_hello([3, 1]), modern),
        ("SSL 3", server_hello([3, 0]), modern),
        ("an old cipher", server_hello([3, 3]), "TLS handshake failed"),
        ("alert protocol_version", vec![0x15, 3, 3, 0, 2, 2, 70], modern),
        (
            "alert handshake_failure",
            vec![0x15, 3, 3, 0, 2, 2, 40],
            "TLS handshake failed: the endpoint sent HandshakeFailure",
        ),
        (
            "plaintext",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "TLS handshake failed: the port does not speak TLS",
        ),
        ("nothing", Vec::new(), "TLS handshake failed: connection closed"),
    ];
    let egress = trusting(Vec::new());
    for (name, answer, text) in rows {
        let answer = answer.clone();
        let server = Server::raw(move |mut stream| {
            let mut sent = vec![0; 16 * 1024];
            let mut length = stream.read(&mut sent).expect("a hello");
            stream.write_all(&answer).expect("a reader");
            stream.shutdown(std::net::Shutdown::Write).expect("a reader");
            while let Ok(more @ 1..) = stream.read(&mut sent[length..]) {
                length += more;
            }
            sent.truncate(length);
            sent
        });
        let url = format!("https://{HOST}:{}/secret-path", server.port);
        assert_eq!(failure(&egress, &url).await, format!("could not connect: {text}"), "{name}");
        let sent = server.end().await;
        assert_eq!(sent.first(), Some(&0x16), "{name}: a handshake was tried");
        assert!(!String::from_utf8_lossy(&sent).contains("secret-path"), "{name}: no plaintext");
    }
}

/// Closes a connection so that the other end sees a reset: with something unread.
fn reset(stream: TcpStream) {
    stream.peek(&mut [0]).expect("something to read");
}

#[tokio::test]
async fn a_connection_that_breaks_says_how() {
    let egress = trusting(Vec::new());
    let refused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let refused = refused.expect("a free port").port();
    for scheme in ["http", "https"] {
        let text = failure(&egress, &format!("{scheme}://{HOST}:{refused}/")).await;
        assert_eq!(text, "could not connect: connection refused");
    }
    let server = Server::raw(reset);
    let text = failure(&egress, &format!("https://{HOST}:{}/", server.port)).await;
    assert_eq!(text, "could not connect: connection reset");

    let server = Server::raw(reset);
    assert_eq!(failure(&egress, &server.url()).await, "no complete answer: connection reset");
    for (answer, text) in [
        ("", "connection closed"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "connection closed"),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 9x OK\r\n\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 200 OK\r\na\0b: c\r\n\r\n", "the answer is not HTTP"),
    ] {
        let server = Server::http(|mut stream| stream.write_all(answer.as_bytes()));
        let sent = failure(&egress, &server.url()).await;
        assert_eq!(sent, format!("no complete answer: {text}"), "{answer:?}");
    }
}

/// A resolver that knows no name.
struct Unknown(Option<io::ErrorKind>);

impl Lookup for Unknown {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let answer =
            self.0.map_or_else(|| Ok(Vec::new()), |kind| Err(io::Error::new(kind, "10.0.0.53 says no")));
        Box::pin(async move { answer })
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_says_so() {
    // What the operating system says of such names differs; one kind is that of a refused connection.
    for kind in [None, Some(io::ErrorKind::Other), Some(io::ErrorKind::ConnectionRefused)] {
        let egress = Egress::with_lookup(false, &(Arc::new(Unknown(kind)) as _)).expect("TLS works");
        let text = failure(&egress, "https://missing.example/").await;
        assert_eq!(text, "could not connect: the host name does not resolve");
    }
}
