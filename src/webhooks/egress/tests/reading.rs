//! How much of an answer is read, to the byte.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame};

use super::{
    limits::{LONG, impatient},
    *,
};

/// A body without an end, which counts the bytes that are taken from it.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.fetch_add(1000, Ordering::SeqCst);
        let piece = Bytes::from_static(&[b'x'; 1000]);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn no_piece_of_a_body_is_taken_once_there_is_enough() {
    let taken = Arc::default();
    let body = reqwest::Body::wrap(Endless(Arc::clone(&taken)));
    let kept = read_start(axum::http::Response::new(body).into()).await;
    assert_eq!(kept.len(), KEEP_LIMIT_BYTES);
    assert_eq!(taken.load(Ordering::SeqCst), 17_000, "the first 16 KiB, in whole pieces");
}

/// Sends `answer`, no byte more, and waits until the client hangs up.
fn stopping(answer: String) -> Server<()> {
    Server::http(move |mut stream| {
        // The client may hang up at the last bytes of it.
        let _ = stream.write_all(answer.as_bytes());
        while let Ok(1..) = stream.read(&mut [0; 1024]) {}
    })
}

#[tokio::test]
async fn nothing_beyond_the_limits_is_waited_for() {
    let egress = impatient(LONG);
    let body = "x".repeat(READ_LIMIT_BYTES);
    for length in ["content-length: 10737418240", "connection: close"] {
        let server = stopping(format!("HTTP/1.1 500 Oops\r\n{length}\r\n\r\n{body}"));
        let answer = post(&egress, Mode::Test, &server.url()).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.body.len()), (500, KEEP_LIMIT_BYTES));
        server.end().await;
    }
    let too_large = "no complete answer: the answer's headers are too many or too large";
    for headers in ["x: y\r\n".repeat(101), format!("x: {}", "y".repeat(408 * 1024))] {
        let server = stopping(format!("HTTP/1.1 200 OK\r\n{headers}"));
        let sent = post(&egress, Mode::Test, &server.url()).await;
        assert_eq!(sent.map_err(|error| error.to_string()), Err(too_large.to_owned()));
        server.end().await;
    }
}
