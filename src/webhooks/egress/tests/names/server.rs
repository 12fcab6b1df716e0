//! A name server that answers by script.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, SOA},
    },
};

/// What is said of a name.
pub enum Reply {
    /// Nothing, for ever.
    None,
    Code(ResponseCode),
    /// TTLs in seconds.
    Records(Vec<(u32, RData)>),
    /// Over UDP that it is too long, over TCP these addresses.
    Truncated(Vec<IpAddr>),
    /// No such name, for that long.
    Absent {
        ttl_seconds: u32,
    },
}

impl Reply {
    pub fn addresses(ttl_seconds: u32, list: &[&str]) -> Self {
        let record = |text: &&str| (ttl_seconds, text.parse::<IpAddr>().expect("an address").into());
        Self::Records(list.iter().map(record).collect())
    }

    pub fn alias(of: &str) -> Self {
        Self::Records(vec![(60, RData::CNAME(CNAME(name(of))))])
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

type Script = dyn Fn(&str, &str) -> Reply + Send + Sync;

/// Answers until the process ends.
pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl NameServer {
    /// `script` is given the name, with its last dot, and "A" or "AAAA".
    pub fn start(script: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let (tcp, udp) = sockets();
        let address = udp.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, by_script) = (Arc::clone(&asked), Arc::clone(&script));
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut question) {
                if let Some(answer) = answer(&question[..length], &*by_script, &log, false) {
                    udp.send_to(&answer, from).expect("a socket");
                }
            }
        });
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.expect("a connection");
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut question).expect("a question");
                    let answer = answer(&question, &*script, &log, true).expect("an answer");
                    let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                    stream.write_all(&[&length[..], &answer].concat()).expect("a reader");
                }
            }
        });
        Self { address, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every question over UDP so far: name and family.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// Of one number, which is free for both.
fn sockets() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")) {
            return (tcp, udp);
        }
    }
}

fn answer(
    question: &[u8],
    script: &Script,
    log: &Mutex<Vec<(String, String)>>,
    over_tcp: bool,
) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(question).expect("a question").into_response();
    let query = message.queries.first().expect("a question").clone();
    let (asked, family) = (query.name().to_ascii(), query.query_type().to_string());
    if !over_tcp {
        log.lock().expect("not poisoned").push((asked.clone(), family.clone()));
    }
    let record = |ttl, data: RData| Record::from_rdata(query.name().clone(), ttl, data);
    match script(&asked, &family) {
        Reply::None => return None,
        Reply::Code(code) => message.metadata.response_code = code,
        Reply::Records(records) => {
            let fits = |data: &RData| {
                let kind = data.record_type();
                kind == query.query_type() || kind == RecordType::CNAME
            };
            let records = records.into_iter().filter(|(_, data)| fits(data));
            message.answers.extend(records.map(|(ttl, data)| record(ttl, data)));
        }
        Reply::Truncated(addresses) if over_tcp => {
            message.answers.extend(addresses.into_iter().map(|address| record(60, address.into())));
        }
        Reply::Truncated(_) => message.metadata.truncation = true,
        Reply::Absent { ttl_seconds } => {
            let soa = SOA::new(name("ns.example."), name("nobody.example."), 1, 2, 3, 4, ttl_seconds);
            message.authorities.push(record(ttl_seconds, RData::SOA(soa)));
            message.metadata.response_code = ResponseCode::NXDomain;
        }
    }
    Some(message.to_vec().expect("an answer"))
}
