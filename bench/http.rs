//! As much of HTTP/1.1 as the bench needs on both sides: one message after the other on a kept connection, bodies with
//! a `content-length`. On a machine that is shared with the service, a full client would be half of what is measured.

use std::{
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One end of a connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer is the message that was received last.
    taken: usize,
}

/// A request or an answer.
pub struct Message<'a> {
    head: &'a str,
    pub body: &'a [u8],
}

impl Connection {
    pub async fn open(to: SocketAddr) -> Result<Self> {
        Self::new(TcpStream::connect(to).await?)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024), taken: 0 })
    }

    /// Sends a request and waits for its answer.
    pub async fn call(&mut self, request: &[u8]) -> Result<Message<'_>> {
        self.stream.write_all(request).await?;
        self.receive().await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// The next message; `None` when the other end has closed.
    async fn receive(&mut self) -> Result<Option<Message<'_>>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let (head, end) = loop {
            if let Some((head, length)) = measure(&self.buffer)?
                && self.buffer.len() >= head + length
            {
                break (head, head + length);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        };
        self.taken = end;
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(|_| malformed("head"))?;
        Ok(Some(Message { head: text, body: &self.buffer[head..end] }))
    }
}

/// Lengths of the head and the body, once the head is complete.
fn measure(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[..end]).map_err(|_| malformed("head"))?;
    if header(text, "transfer-encoding").is_some() {
        return Err(malformed("body: it has no length"));
    }
    let length = match header(text, "content-length") {
        Some(length) => length.parse().map_err(|_| malformed("content-length"))?,
        None => 0,
    };
    Ok(Some((end + 4, length)))
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("unexpected {what}"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Message<'_> {
    /// Of an answer.
    pub fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }

    /// Of a request: its method and its path with the query.
    pub fn target(&self) -> (&str, &str) {
        let mut words = self.head.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body).into_owned()
    }
}

/// A request in the bytes that are sent; `headers` are whole lines, each with its end.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + path.len() + headers.len() + body.len());
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Answers every request with what `answer` gives: a JSON body, or none for 204.
pub async fn serve(
    listener: TcpListener,
    answer: impl Fn(&Message<'_>) -> Option<String> + Send + Sync + 'static,
) -> Result<()> {
    let answer = Arc::new(answer);
    loop {
        let (stream, _) = listener.accept().await?;
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut connection = Connection::new(stream)?;
            while let Some(request) = connection.receive().await? {
                let bytes = match answer(&request) {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    ),
                    None => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                };
                connection.stream.write_all(bytes.as_bytes()).await?;
            }
            Ok::<_, Error>(())
        });
    }
}
