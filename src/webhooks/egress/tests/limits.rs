//! An endpoint can neither hold a worker nor fill its memory.

use std::time::Instant;

use super::{failures::Identity, *};

/// Long enough for a busy machine to get as far as the fault.
const SHORT: Duration = Duration::from_millis(400);
/// Longer than any test waits.
pub const LONG: Duration = Duration::from_mins(10);
/// How fast an endpoint drips.
const TICK: Duration = Duration::from_millis(5);

fn impatient_connecting(lookup: Arc<dyn Lookup>) -> Egress {
    let setup = Setup { lookup, connect_timeout: SHORT, total_timeout: LONG, ..Setup::default() };
    Egress::build(true, &setup).expect("TLS works")
}

pub fn impatient(total_timeout: Duration) -> Egress {
    let setup = Setup { connect_timeout: LONG, total_timeout, ..Setup::default() };
    Egress::build(true, &setup).expect("TLS works")
}

/// Writes `piece` again and again, each after a tick, until the client hangs up.
fn drip(mut stream: TcpStream, piece: &[u8]) {
    stream.set_read_timeout(Some(TICK)).expect("a socket");
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stream.write_all(piece).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Never answers.
struct Hanging;

impl Lookup for Hanging {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn what_hangs_before_the_request_ends_at_the_deadline_of_connecting() {
    let start = Instant::now();
    let egress = impatient_connecting(Arc::new(Hanging));
    let sent = post(&egress, Mode::Test, "https://hanging.example/").await;
    assert_eq!(sent, Err(SendError::ConnectTimedOut), "name look-up");

    let egress = impatient_connecting(Arc::new(Loopback));
    let silent = Server::raw(|stream| drip(stream, b""));
    // A handshake record of the greatest length there is, a byte at a time.
    let dripping = Server::raw(|mut stream| {
        stream.write_all(&[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc]).expect("a reader");
        drip(stream, &[3]);
    });
    for server in [silent, dripping] {
        let sent = post(&egress, Mode::Test, &format!("https://hooks.example:{}/", server.port)).await;
        assert_eq!(sent, Err(SendError::ConnectTimedOut), "TLS handshake");
        server.end().await;
    }
    assert!(start.elapsed() < LONG / 10);
}

/// Connections to it are neither made nor refused: as many wait as it lets wait, and nobody takes them.
#[cfg(target_os = "linux")]
fn black_hole() -> (u16, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let listener = socket.listen(1).expect("a socket");
    let address = listener.local_addr().expect("bound");
    let waiting = (0..2).map(|_| TcpStream::connect(address).expect("a place in the queue")).collect();
    (address.port(), listener, waiting)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn packets_that_vanish_end_at_the_deadline_of_connecting() {
    let (port, _listener, _waiting) = black_hole();
    let egress = impatient_connecting(Arc::new(Loopback));
    // By http: were it connected to, only the other deadline could end it.
    let sent = post(&egress, Mode::Test, &format!("http://hooks.example:{port}/")).await;
    assert_eq!(sent, Err(SendError::ConnectTimedOut));
}

#[tokio::test]
async fn progress_does_not_move_the_deadline_of_the_answer() {
    let egress = impatient(SHORT);
    let rows: &[(&str, &'static [u8], &'static [u8])] = &[
        ("silence", b"", b""),
        ("a status line", b"HTTP/1.1 200 ", b"K"),
        ("a header", b"HTTP/1.1 200 OK\r\nx: ", b"y"),
        ("headers", b"HTTP/1.1 200 OK\r\n", b"a:b\r\n"),
        ("interim answers", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ];
    for (name, start, piece) in rows {
        let (start, piece) = (*start, *piece);
        let server = Server::http(move |mut stream| {
            stream.write_all(start).expect("a reader");
            drip(stream, piece);
        });
        let began = Instant::now();
        assert_eq!(post(&egress, Mode::Test, &server.url()).await, Err(SendError::TimedOut), "{name}");
        assert!(began.elapsed() < LONG / 10, "{name}");
        server.end().await;
    }
}

#[tokio::test]
async fn a_request_that_nobody_reads_ends_at_the_deadline() {
    let egress = impatient(SHORT);
    let (hang_up, hung_up) = std::sync::mpsc::channel::<()>();
    let server = Server::raw(move |stream| {
        let _ = hung_up.recv();
        drop(stream);
    });
    // More than the buffers of both ends.
    let body = vec![b'x'; 32 * 1024 * 1024];
    let sent = egress.post(egress.rules(Mode::Test), &server.url(), HeaderMap::new(), body).await;
    assert_eq!(sent, Err(SendError::TimedOut));
    drop(hang_up);
    server.end().await;
}

#[tokio::test]
async fn a_dripping_body_does_not_hide_the_status_and_is_left_at_the_deadline() {
    // The head of the answer must arrive before it, however busy the machine is.
    let egress = impatient(SHORT * 4);
    let left = async |head: &'static str, piece: &'static [u8]| {
        let server = Server::http(move |mut stream| {
            write!(stream, "HTTP/1.1 200 OK\r\nretry-after: 7\r\n{head}\r\n\r\n").expect("a reader");
            drip(stream, piece);
        });
        let answer = post(&egress, Mode::Test, &server.url()).await.expect("an answer");
        assert_eq!((answer.status, answer.retry_after.as_deref()), (StatusCode::OK, Some("7")));
        assert!(answer.body.bytes().all(|byte| byte == b'a'), "{}", answer.body);
        server.end().await;
    };
    tokio::join!(
        left("content-length: 10737418240", b"a"),
        left("transfer-encoding: chunked", b"1\r\na\r\n")
    );
}

/// Sends `head` and then `piece` until the client hangs up; how much that was.
fn flood(head: &'static str, piece: &'static [u8]) -> Server<usize> {
    Server::http(move |mut stream| {
        stream.write_all(head.as_bytes()).expect("a reader");
        let mut written = 0_usize;
        // Ends by the client's hanging up; the buffers of both ends are far below this many bytes.
        while written < 1_000_000_000 && stream.write_all(piece).is_ok() {
            written += piece.len();
        }
        written
    })
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let egress = local();
    for head in [
        "HTTP/1.1 500 Oops\r\n\r\n",
        "HTTP/1.1 500 Oops\r\ncontent-length: 10737418240\r\n\r\n",
        "HTTP/1.1 500 Oops\r\ncontent-encoding: gzip\r\ncontent-type: text/plain\r\n\r\n",
    ] {
        let server = flood(head, &[b'x'; 4096]);
        let answer = post(&egress, Mode::Test, &server.url()).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.body.len()), (500, KEEP_LIMIT_BYTES));
        assert!(server.end().await < 100_000_000);
    }
}

#[tokio::test]
async fn endless_headers_are_cut() {
    let egress = local();
    let too_large = "no complete answer: the answer's headers are too many or too large";
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\nx: ", &[b'x'; 4096][..]),
        ("HTTP/1.1 200 OK\r\n", b"a-header: of some length\r\n"),
        ("HTTP/1.1 200 ", &[b'K'; 4096]),
    ] {
        let server = flood(head, piece);
        let sent = post(&egress, Mode::Test, &server.url()).await;
        assert_eq!(sent.map_err(|error| error.to_string()), Err(too_large.to_owned()), "{head}");
        assert!(server.end().await < 100_000_000);
    }
    let thousand = "x: y\r\n".repeat(1000);
    let server = Server::http(move |mut stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{thousand}content-length: 0\r\n\r\n");
        read_head(&mut stream)
    });
    let sent = post(&egress, Mode::Test, &server.url()).await;
    assert_eq!(sent.map_err(|error| error.to_string()), Err(too_large.to_owned()), "1,000 headers");
    server.end().await;
}

#[tokio::test]
async fn a_retry_after_of_any_length_is_kept_only_while_it_can_be_one() {
    for (length, kept) in [(10, true), (64, true), (65, false), (300_000, false)] {
        let text = "9".repeat(length);
        let head = format!("HTTP/1.1 503 Busy\r\nretry-after: {text}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::http(move |mut stream| stream.write_all(head.as_bytes()));
        let answer = post(&local(), Mode::Test, &server.url()).await.expect("an answer");
        assert_eq!(answer.retry_after, kept.then_some(text), "{length}");
    }
}

/// 100,000 zeros, compressed.
const BOMB: &str = "H4sIAAAAAAACA+3BMQEAAADCoErrn84aHkABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAArwaFwk3FoIYBAA==";

#[tokio::test]
async fn compressed_answers_are_not_asked_for_and_not_unpacked() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bomb = STANDARD.decode(BOMB).expect("base64");
    let sent = bomb.clone();
    let server = Server::raw(move |mut stream| {
        let head = read_head(&mut stream);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", sent.len())
            .and_then(|()| stream.write_all(&sent))
            .expect("a reader");
        head
    });
    let answer = post(&local(), Mode::Test, &server.url()).await.expect("an answer");
    assert_eq!(answer.body, kept(&bomb), "the bytes as they came");
    let head = server.end().await.to_lowercase();
    assert!(!head.contains("accept-encoding"), "{head}");
}

/// Reads the settings that the client starts an HTTP/2 connection with, and what it adds to the window.
fn http2_settings(stream: &mut impl Read) -> (Vec<(u16, u32)>, u32) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).expect("a preface");
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut frame = || {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        stream.read_exact(&mut payload).expect("a frame");
        (head[3], payload)
    };
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let (kind, settings) = frame();
    assert_eq!(kind, 4, "SETTINGS");
    let (kind, increment) = frame();
    assert_eq!(kind, 8, "WINDOW_UPDATE");
    let setting = |bytes: &[u8]| (u16::from_be_bytes([bytes[0], bytes[1]]), number(&bytes[2..]));
    (settings.chunks(6).map(setting).collect(), number(&increment))
}

#[tokio::test]
async fn an_http2_endpoint_is_let_send_little_ahead() {
    let identity = Identity::new(&["hooks.example"], |_| {}).speaking(b"h2");
    let setup =
        Setup { lookup: Arc::new(Loopback), extra_roots: vec![identity.authority()], ..Setup::default() };
    let egress = Egress::build(true, &setup).expect("TLS works");
    let server = Server::raw(move |stream| http2_settings(&mut identity.accept(stream)));
    let sent = post(&egress, Mode::Test, &format!("https://hooks.example:{}/", server.port)).await;
    assert!(matches!(sent, Err(SendError::Failed(_))), "the server only looked: {sent:?}");
    let (settings, increment) = server.end().await;
    let of = |name| settings.iter().find(|(id, _)| *id == name).map(|(_, value)| *value);
    assert_eq!(of(4), Some(HTTP2_STREAM_WINDOW_BYTES), "bytes per request");
    assert_eq!(65_535 + increment, HTTP2_CONNECTION_WINDOW_BYTES, "bytes per connection");
    assert_eq!(of(6), Some(HTTP2_HEADERS_LIMIT_BYTES), "bytes of headers");
    assert_eq!(of(2), Some(0), "no pushes");
}
