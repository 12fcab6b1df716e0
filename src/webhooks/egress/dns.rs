//! Asks the machine's name servers, without the operating system's resolver: that one takes a thread for as
//! long as a name hangs, and when all threads wait nobody's name is found (docs/adr/0011).

mod servers;

use std::{
    fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use hickory_resolver::{
    Hosts, Resolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    },
    net::NetError,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
};

use super::resolver::Lookup;
use servers::OneDatagram;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What a name server gets to answer one question; after it, the next one or the same one is asked.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Besides the first question.
const REPEATS: usize = 1;
/// A whole look-up, with a chain of aliases. Less than there is for the connection, so that it is the name
/// that is blamed.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(4500);
/// Answers; a name has two.
const CACHED_ANSWERS: u64 = 1024;
const CACHED_LONGEST: Duration = Duration::from_mins(5);
/// A merchant who has just put his name up does not wait for long.
const ABSENCE_CACHED_LONGEST: Duration = Duration::from_secs(10);
/// At once over one TCP connection, which carries only what is too long for a datagram.
const TCP_QUESTIONS: usize = 512;

/// Looks names up at name servers and in a hosts file, without any thread of its own.
pub(super) struct Dns {
    resolver: Resolver<OneDatagram>,
    hosts: Arc<Hosts>,
    timeout: Duration,
}

impl Dns {
    /// As the machine is configured now; later changes are not seen.
    pub(super) fn of_system() -> Self {
        Self::new(servers::configured(RESOLV_CONF), read_hosts(HOSTS), QUERY_TIMEOUT, LOOKUP_TIMEOUT)
    }

    /// Of `servers`, the one that has answered fastest and failed least is asked first.
    pub(super) fn new(
        servers: Vec<SocketAddr>,
        hosts: Hosts,
        query_timeout: Duration,
        timeout: Duration,
    ) -> Self {
        // Neither a domain nor search domains: a merchant's `foo.com` is never `foo.com.corp.internal`.
        let config = ResolverConfig::from_name_servers(servers.into_iter().map(name_server).collect());
        let mut builder = Resolver::builder_with_config(config, OneDatagram::default());
        set_options(builder.options_mut(), query_timeout);
        let resolver = builder.build().expect("only setting up TLS can fail, and there is none");
        Self { resolver, hosts: Arc::new(hosts), timeout }
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn set_options(options: &mut ResolverOpts, query_timeout: Duration) {
    options.timeout = query_timeout;
    options.attempts = REPEATS;
    // One server at a time: asking two would take twice the sockets for each name that hangs.
    options.num_concurrent_reqs = 1;
    options.max_active_requests = TCP_QUESTIONS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.edns0 = false;
    options.cache_size = CACHED_ANSWERS;
    options.positive_max_ttl = Some(CACHED_LONGEST);
    options.negative_max_ttl = Some(ABSENCE_CACHED_LONGEST);
}

impl Lookup for Dns {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let (resolver, hosts, timeout) = (self.resolver.clone(), Arc::clone(&self.hosts), self.timeout);
        Box::pin(async move {
            let name = absolute(&host)?;
            let listed = listed(&hosts, &name);
            if !listed.is_empty() {
                return Ok(listed);
            }
            #[expect(clippy::disallowed_methods, reason = "no database: a question that is dropped is over")]
            let found = tokio::time::timeout(timeout, resolver.lookup_ip(name)).await;
            let found = found.map_err(|_| io::Error::from(ErrorKind::TimedOut))?.map_err(into_io)?;
            Ok(found.iter().map(|address| SocketAddr::new(address, 0)).collect())
        })
    }
}

/// `host` as a name that nothing is appended to.
fn absolute(host: &str) -> io::Result<Name> {
    let mut name = Name::from_ascii(host).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    name.set_fqdn(true);
    Ok(name)
}

/// What the hosts file says. Where it knows a name, name servers are not asked, not even for the other family.
fn listed(hosts: &Hosts, name: &Name) -> Vec<SocketAddr> {
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)))
        .flat_map(|found| {
            found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
        })
        .map(|address| SocketAddr::new(address, 0))
        .collect()
}

fn into_io(error: NetError) -> io::Error {
    let kind = match &error {
        NetError::Timeout => ErrorKind::TimedOut,
        NetError::Io(error) if error.kind() == ErrorKind::TimedOut => ErrorKind::TimedOut,
        error if error.is_no_records_found() => ErrorKind::NotFound,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Empty when there is none.
fn read_hosts(path: &str) -> Hosts {
    let mut hosts = Hosts::default();
    let read = fs::File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    if let Err(error) = read
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(file = path, %error, "the hosts file cannot be read to its end: names in it may not be found");
    }
    hosts
}
