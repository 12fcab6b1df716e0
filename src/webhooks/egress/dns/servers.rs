//! Which name servers there are, and how they are spoken to.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use futures::{
    StreamExt as _, TryFutureExt as _,
    future::{BoxFuture, ready},
    stream::Map,
};
use hickory_resolver::{
    ConnectionProvider, PoolContext,
    config::{ConnectionConfig, ProtocolConfig},
    net::{
        NetError,
        runtime::TokioRuntimeProvider,
        udp::UdpClientStream,
        xfer::{DnsExchange, DnsHandle},
    },
    proto::op::{DnsRequest, DnsResponse},
};

const PORT: u16 = 53;
/// As resolv.conf(5) has it.
const MOST_SERVERS: usize = 3;
/// A hundred addresses. What is longer would only fill the cache, which counts answers and not bytes.
const LONGEST_ANSWER_BYTES: usize = 2048;

/// The name servers that the file at `path` names. When it names none, the one on this machine, as
/// resolv.conf(5) has it: names in the hosts file are found all the same.
pub(super) fn configured(path: &str) -> Vec<SocketAddr> {
    let (named, error) = match fs::read(path) {
        Ok(bytes) => (named(&String::from_utf8_lossy(&bytes)), "it names no name server".to_owned()),
        Err(error) => (Vec::new(), error.to_string()),
    };
    if !named.is_empty() {
        return named;
    }
    tracing::error!(
        alert = "name_servers_unknown",
        file = path,
        error,
        "the name servers are not known: asking 127.0.0.1 for the names of webhook endpoints"
    );
    vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))]
}

/// Of a text in the format of resolv.conf. Its search domains and options are not for merchants' names.
pub(super) fn named(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        address.parse::<IpAddr>().ok()
    };
    text.lines()
        .filter_map(address)
        .take(MOST_SERVERS)
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

/// Speaks to a name server as the library does, but with one datagram and so one socket per question. By
/// itself it repeats each after a third of a second from a further socket: with every delivery's name hanging,
/// these would use up the process' file descriptors.
#[derive(Clone, Default)]
pub(super) struct OneDatagram(TokioRuntimeProvider);

impl ConnectionProvider for OneDatagram {
    type Conn = Bounded;
    type FutureConn = BoxFuture<'static, Result<Self::Conn, NetError>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        if config.protocol != ProtocolConfig::Udp {
            return Ok(Box::pin(self.0.new_connection(ip, config, context)?.map_ok(Bounded)));
        }
        let exchange = UdpClientStream::builder(SocketAddr::new(ip, config.port), self.0.clone())
            .with_timeout(Some(context.options.timeout))
            .with_max_retries(1)
            .exchange();
        Ok(Box::pin(ready(Ok(Bounded(exchange)))))
    }

    fn runtime_provider(&self) -> &Self::RuntimeProvider {
        &self.0
    }
}

/// Refuses answers that are too long; over TCP they may have 64 KiB.
#[derive(Clone)]
pub(super) struct Bounded(DnsExchange<TokioRuntimeProvider>);

type Answered = Result<DnsResponse, NetError>;

impl DnsHandle for Bounded {
    type Response = Map<<DnsExchange<TokioRuntimeProvider> as DnsHandle>::Response, fn(Answered) -> Answered>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        self.0.send(request).map(|answered| match answered {
            Ok(answer) if answer.as_buffer().len() > LONGEST_ANSWER_BYTES => {
                Err("the answer is too long".into())
            }
            answered => answered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_three_servers_at_most() {
        let text = "# ours\n; too\nsearch corp.internal -- lan\noptions ndots:5 rotate\nnameserver 10.0.0.2\n\
            \tnameserver\t10.0.0.3 # near\nnameservers 10.0.0.9\nnameserver\nnameserver ten\n#nameserver 10.0.0.8\n\
            nameserver fe80::1%eth0\nnameserver 2001:db8::53\r\nnameserver 10.0.0.4\n";
        let servers: Vec<String> = named(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "10.0.0.3:53", "[2001:db8::53]:53"]);
        assert!(named("").is_empty());
    }

    #[test]
    fn without_a_readable_file_this_machine_is_asked() {
        let folder = std::env::temp_dir();
        for path in [folder.join("no-such-resolv.conf").as_path(), &folder, std::path::Path::new("/dev/null")]
        {
            assert_eq!(
                configured(path.to_str().expect("text")),
                ["127.0.0.1:53".parse().expect("an address")]
            );
        }
    }
}
