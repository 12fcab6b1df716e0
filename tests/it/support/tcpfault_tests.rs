//! The proxy breaks what it should, and nothing else.

use super::*;

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    addr
}

async fn ask(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn it_forwards_resets_cuts_and_is_silent() {
    let proxy = TcpFault::start(Upstream::Tcp(vec![echo().await])).await.unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(ask(&mut stream, b"hello").await.unwrap(), b"hello");
    assert_eq!(proxy.connections(), 1);
    proxy.reset_all();
    assert_eq!(ask(&mut stream, b"hello").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.cut_after(3);
    stream.write_all(b"hello").await.unwrap();
    let mut got = Vec::new();
    assert!(stream.read_to_end(&mut got).await.is_err());
    assert!(got.len() <= 3, "{got:?}");

    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.black_hole(true);
    tokio::select! {
        answer = ask(&mut stream, b"hello") => panic!("{answer:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    proxy.calm();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
}
