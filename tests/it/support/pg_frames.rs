//! Messages of Postgres's protocol, as far as a proxy needs to tell them apart.

/// What the server gets to know before its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The next COMMIT of any connection.
    Commit,
    /// The next request of any connection, in Postgres's protocol: a statement that commits by itself, mostly.
    Request,
}

/// Finds the messages of Postgres's protocol in a client's bytes, wherever reads have cut them.
#[derive(Debug, Default)]
pub struct Frames {
    started: bool,
    /// Head of the message under way: type, length, and the start of its body.
    head: Vec<u8>,
    /// Bytes of it that are still to come; `None` while its length is not known.
    left: Option<usize>,
    /// Whether something was asked since the last request to answer.
    asked: bool,
    round_trips: u64,
}

/// Enough to tell `COMMIT`.
const HEAD_BYTES: usize = 5 + 6;

impl Frames {
    /// Bytes up to the end of the next message that `bytes` complete, and what it asks; `None` when it goes on.
    pub fn next(&mut self, bytes: &[u8]) -> Option<(usize, Option<Loss>)> {
        let mut taken = 0;
        loop {
            let length_at = usize::from(self.started);
            if let Some(left) = self.left {
                let step = left.min(bytes.len() - taken);
                let room = HEAD_BYTES.saturating_sub(self.head.len()).min(step);
                self.head.extend_from_slice(&bytes[taken..taken + room]);
                taken += step;
                self.left = Some(left - step);
                if left > step {
                    return None;
                }
                self.left = None;
                let head = std::mem::take(&mut self.head);
                return Some((taken, self.finish(&head)));
            }
            self.head.push(*bytes.get(taken)?);
            taken += 1;
            if self.head.len() == length_at + 4 {
                let length = u32::from_be_bytes(self.head[length_at..].try_into().ok()?);
                self.left = Some(usize::try_from(length).ok()?.saturating_sub(4));
            }
        }
    }

    /// Round trips since the last call.
    pub fn take_round_trips(&mut self) -> u64 {
        std::mem::take(&mut self.round_trips)
    }

    fn finish(&mut self, head: &[u8]) -> Option<Loss> {
        if !self.started {
            // Requests for encryption (1234, 5679 and 5680) come before the real start.
            self.started = !(head.len() >= 6 && head[4..6] == 1234_u16.to_be_bytes());
            return None;
        }
        // A Sync alone is how the pool looks at a connection that comes back; nobody waits for it.
        match head.first() {
            Some(b'S') if !std::mem::take(&mut self.asked) => {}
            Some(b'S' | b'Q') => self.round_trips += 1,
            _ => self.asked = true,
        }
        match head {
            [b'Q', _, _, _, _, text @ ..] if text.eq_ignore_ascii_case(b"commit") => Some(Loss::Commit),
            [b'S' | b'Q', ..] => Some(Loss::Request),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used, reason = "also compiled where no test runs")]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn conversation() -> (Vec<u8>, Vec<Option<Loss>>) {
        let ssl = [&8_u32.to_be_bytes()[..], &1234_u16.to_be_bytes(), &5679_u16.to_be_bytes()].concat();
        let start =
            [&13_u32.to_be_bytes()[..], &3_u16.to_be_bytes(), &0_u16.to_be_bytes(), b"user\0"].concat();
        let parse = message(b'P', b"\0select 'commit'\0\0\0");
        let bytes =
            [ssl, start, message(b'Q', b"BEGIN\0"), parse, message(b'S', b""), message(b'Q', b"COMMIT\0")];
        let asked = vec![None, None, Some(Loss::Request), None, Some(Loss::Request), Some(Loss::Commit)];
        (bytes.concat(), asked)
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let (bytes, asked) = conversation();
        for size in 1..=bytes.len() {
            let (mut frames, mut found, mut seen) = (Frames::default(), Vec::new(), 0);
            for mut chunk in bytes.chunks(size) {
                while let Some((taken, request)) = frames.next(chunk) {
                    found.push(request);
                    seen += taken;
                    chunk = &chunk[taken..];
                }
                seen += chunk.len();
            }
            assert_eq!((found, seen), (asked.clone(), bytes.len()), "cut every {size} bytes");
        }
    }
}
