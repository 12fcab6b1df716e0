//! Who may call how often: a budget per API key, and one of failed authentications per address.
//!
//! Both are kept by each process for itself and forgotten with it: they protect the service, and are no quota that is
//! sold. A proxy's word on who its client is (`X-Forwarded-For`) is not taken: anybody can send it. Failures from
//! behind one proxy count together, which costs nobody with a valid key anything.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{
    Quota, RateLimiter, clock::Clock as _, middleware::StateInformationMiddleware,
    state::keyed::HashMapStateStore,
};

use tokio::sync::Semaphore;

use super::{ApiError, Caller};
use crate::{app::App, config::Config, kit::clock::Clock, tenancy::KeyId};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What stands before every route that takes an API key.
pub struct Gate {
    app: App,
    budgets: Option<Budgets>,
    failures: Option<Failures>,
    suspects: Semaphore,
}

/// Keys that are looked up at a time for addresses with too many failures, all of them together.
const SUSPECTS_AT_ONCE: usize = 2;

impl Gate {
    /// With the limits of the configuration and nothing counted yet.
    pub fn new(app: App) -> Arc<Self> {
        let budgets = Budgets::new(&app.config, app.clock.clone());
        let failures = NonZeroU32::new(app.config.failed_authentications_per_minute).map(Failures::new);
        Arc::new(Self { app, budgets, failures, suspects: Semaphore::new(SUSPECTS_AT_ONCE) })
    }

    /// Who calls. Guesses that are well-formed cost a look into the database each: those from an address with too many of
    /// them queue for it, and leave the connections to others. A valid key from there comes through.
    async fn authenticate(&self, parts: &mut Parts) -> Result<Caller, ApiError> {
        let now = since_epoch(&self.app.clock);
        let is_suspect = match (&self.failures, peer(parts)) {
            (Some(failures), Some(peer)) => failures.are_too_many(peer, now),
            _ => false,
        };
        // It is never closed.
        let _turn = if is_suspect { self.suspects.acquire().await.ok() } else { None };
        Caller::from_request_parts(parts, &self.app).await
    }

    /// A failed authentication, counted: 401, or 429 when there were too many from its address.
    fn refuse(&self, parts: &Parts, error: ApiError) -> ApiError {
        let (Some(failures), Some(peer), StatusCode::UNAUTHORIZED) =
            (&self.failures, peer(parts), error.status())
        else {
            return error;
        };
        let Some(wait) = failures.count(peer, since_epoch(&self.app.clock)) else { return error };
        metrics::counter!("checkoutd_requests_limited_total", "by" => "address").increment(1);
        ApiError::too_many_requests("too many requests without a valid API key", whole_seconds(wait))
            .detail("reason", "too_many_failed_authentications")
    }
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
}

/// The layer: authenticates, once for all that comes after it, and spends the key's budget.
pub async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match gate.authenticate(&mut parts).await {
        Ok(caller) => caller,
        Err(error) => return gate.refuse(&parts, error).into_response(),
    };
    let Some(budgets) = &gate.budgets else { return next.run(Request::from_parts(parts, body)).await };
    let spent = budgets.spend(caller.key);
    let mut response = match spent.wait {
        None => next.run(Request::from_parts(parts, body)).await,
        Some(wait) => {
            metrics::counter!("checkoutd_requests_limited_total", "by" => "key").increment(1);
            ApiError::too_many_requests("too many requests with this API key", whole_seconds(wait))
                .detail("reason", "rate_limited")
                .into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(LIMIT, HeaderValue::from(spent.limit));
    headers.insert(REMAINING, HeaderValue::from(spent.remaining));
    headers.insert(RESET, HeaderValue::from(spent.reset_seconds));
    response
}

/// Rounded up, so that who waits for so long has waited long enough.
fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs())
        .unwrap_or(u32::MAX)
        .saturating_add(u32::from(wait.subsec_nanos() > 0))
        .max(1)
}

fn since_epoch(clock: &Clock) -> Duration {
    (clock.now() - chrono::DateTime::UNIX_EPOCH).to_std().unwrap_or_default()
}

/// The application's clock, as the limiter asks for it.
#[derive(Clone)]
struct Time(Clock);

impl governor::clock::Clock for Time {
    type Instant = Duration;

    fn now(&self) -> Duration {
        since_epoch(&self.0)
    }
}

type Limiter = RateLimiter<KeyId, HashMapStateStore<KeyId>, Time, StateInformationMiddleware>;

/// A budget per API key: so many requests at once, and so many more each second.
struct Budgets {
    limiter: Limiter,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    /// Seconds since 1970.
    tidied_at: AtomicU64,
}

/// What spending one request of a budget came to.
#[derive(Debug, PartialEq, Eq)]
struct Spent {
    /// Until there is one more; none when this one was within the budget.
    wait: Option<Duration>,
    limit: u32,
    remaining: u32,
    /// Until the budget is whole again.
    reset_seconds: u32,
}

impl Budgets {
    /// Keys whose budget is whole again are forgotten this often.
    const TIDY_SECONDS: u64 = 60;

    fn new(config: &Config, clock: Clock) -> Option<Self> {
        let per_second = NonZeroU32::new(config.rate_limit_per_second)?;
        let burst = NonZeroU32::new(config.rate_limit_burst)?;
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = Limiter::new(quota, HashMapStateStore::default(), Time(clock));
        let tidied_at = AtomicU64::new(limiter.clock().now().as_secs());
        Some(Self { limiter, per_second, burst, tidied_at })
    }

    fn spend(&self, key: KeyId) -> Spent {
        let now = self.limiter.clock().now();
        self.tidy(now);
        let (wait, remaining) = match self.limiter.check_key(&key) {
            Ok(state) => (None, state.remaining_burst_capacity()),
            Err(not_until) => (Some(not_until.wait_time_from(now)), 0),
        };
        let limit = self.burst.get();
        let reset_seconds = limit.saturating_sub(remaining).div_ceil(self.per_second.get());
        Spent { wait, limit, remaining, reset_seconds }
    }

    fn tidy(&self, now: Duration) {
        let (now, last) = (now.as_secs(), self.tidied_at.load(Ordering::Relaxed));
        // Of those who come at once, one tidies up.
        if now.abs_diff(last) >= Self::TIDY_SECONDS
            && self.tidied_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }
}

/// Failed authentications by address, in windows of a minute that begin with the first.
struct Failures {
    most: NonZeroU32,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    by_peer: HashMap<IpAddr, Window>,
    /// Since 1970.
    tidied_at: Duration,
}

#[derive(Clone, Copy)]
struct Window {
    /// Since 1970.
    began: Duration,
    failures: u32,
}

impl Failures {
    const WINDOW: Duration = Duration::from_secs(60);
    /// Who fails while so many others are counted shares one count with all that come after.
    const MOST_PEERS: usize = 10_000;

    fn new(most: NonZeroU32) -> Self {
        Self { most, counted: Mutex::default() }
    }

    /// Counts a failure; how long the address has to wait, when it was one too many.
    fn count(&self, peer: IpAddr, now: Duration) -> Option<Duration> {
        // A panic cannot leave the counts half-changed in a way that matters.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = counted.name(network(peer), now);
        let window = counted.by_peer.entry(peer).or_insert(Window { began: now, failures: 0 });
        if !window.is_open(now) {
            *window = Window { began: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        if window.failures == self.most.get().saturating_add(1) {
            tracing::warn!(peer.network = %peer, "many failed authentications from one address");
        }
        (window.failures > self.most.get()).then(|| (window.began + Self::WINDOW).saturating_sub(now))
    }

    /// Whether one more failure of this address would be one too many.
    fn are_too_many(&self, peer: IpAddr, now: Duration) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = counted.name(network(peer), now);
        let window = counted.by_peer.get(&peer);
        window.is_some_and(|window| window.is_open(now) && window.failures >= self.most.get())
    }
}

impl Counted {
    /// Under which an address is counted: itself as long as there is room.
    fn name(&mut self, peer: IpAddr, now: Duration) -> IpAddr {
        if self.by_peer.len() < Failures::MOST_PEERS || self.by_peer.contains_key(&peer) {
            return peer;
        }
        // Not for every failure: the map is long.
        if now.abs_diff(self.tidied_at) >= Duration::from_secs(1) {
            self.tidied_at = now;
            self.by_peer.retain(|_, window| window.is_open(now));
        }
        if self.by_peer.len() < Failures::MOST_PEERS { peer } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
    }
}

impl Window {
    fn is_open(self, now: Duration) -> bool {
        // A clock that was set back ends it too.
        now.checked_sub(self.began).is_some_and(|age| age < Failures::WINDOW)
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::kit::clock::tests::Hand;

    fn budgets(per_second: &str, burst: &str) -> (Budgets, Hand) {
        let lookup = |name: &str| match name {
            "CHECKOUTD_RATE_LIMIT_PER_SECOND" => Some(per_second.to_owned()),
            "CHECKOUTD_RATE_LIMIT_BURST" => Some(burst.to_owned()),
            _ => None,
        };
        let config = Config::from_lookup(lookup).expect("valid limits");
        let hand = Hand::default();
        hand.advance(TimeDelta::days(20_000));
        let clock = Clock::from_source(Arc::new(hand.clone()));
        (Budgets::new(&config, clock).expect("limits that are on"), hand)
    }

    fn key(number: u128) -> KeyId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn a_budget_is_spent_and_fills_up_again() {
        let (budgets, hand) = budgets("2", "3");
        let remaining = |wait, remaining, reset_seconds| Spent { wait, limit: 3, remaining, reset_seconds };
        assert_eq!(budgets.spend(key(1)), remaining(None, 2, 1));
        assert_eq!(budgets.spend(key(1)), remaining(None, 1, 1));
        assert_eq!(budgets.spend(key(1)), remaining(None, 0, 2));
        assert_eq!(budgets.spend(key(1)), remaining(Some(Duration::from_millis(500)), 0, 2));
        assert_eq!(budgets.spend(key(2)), remaining(None, 2, 1), "another key has its own");
        hand.advance(TimeDelta::milliseconds(499));
        assert!(budgets.spend(key(1)).wait.is_some(), "a refused request costs nothing and gains nothing");
        hand.advance(TimeDelta::milliseconds(1));
        assert_eq!(budgets.spend(key(1)), remaining(None, 0, 2));
        hand.advance(TimeDelta::hours(1));
        assert_eq!(budgets.spend(key(1)), remaining(None, 2, 1), "no more than the burst is saved up");
    }

    #[test]
    fn keys_that_are_not_used_are_forgotten() {
        let (budgets, hand) = budgets("2", "3");
        for number in 0..1000 {
            budgets.spend(key(number));
        }
        assert_eq!(budgets.limiter.len(), 1000);
        hand.advance(TimeDelta::seconds(61));
        budgets.spend(key(1));
        assert_eq!(budgets.limiter.len(), 1);
    }

    #[test]
    fn waits_are_whole_seconds_rounded_up() {
        let waits = [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2)];
        assert!(
            waits.iter().all(|&(millis, seconds)| whole_seconds(Duration::from_millis(millis)) == seconds)
        );
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn failures_are_counted_by_address_for_a_minute() {
        let failures = Failures::new(NonZeroU32::new(3).expect("not zero"));
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let at = |seconds: u64| Duration::from_secs(1_000_000 + seconds);
        for second in 0..3 {
            assert_eq!(failures.count(one, at(second)), None);
        }
        assert_eq!(failures.count(one, at(10)), Some(Duration::from_secs(50)));
        assert_eq!(failures.count(other, at(10)), None);
        assert_eq!(failures.count(address("::ffff:192.0.2.1"), at(59)), Some(Duration::from_secs(1)));
        assert_eq!(failures.count(one, at(60)), None, "a new minute");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let failures = Failures::new(NonZeroU32::new(1).expect("not zero"));
        let now = Duration::from_secs(1_000_000);
        assert_eq!(failures.count(address("2001:db8:0:1::1"), now), None);
        assert!(failures.count(address("2001:db8:0:1:ffff::2"), now).is_some());
        assert_eq!(failures.count(address("2001:db8:0:2::1"), now), None);
    }

    #[test]
    fn the_count_of_many_addresses_is_bounded() {
        let failures = Failures::new(NonZeroU32::new(20).expect("not zero"));
        let now = Duration::from_secs(1_000_000);
        let many = u32::try_from(Failures::MOST_PEERS).expect("a small number");
        let let_in = (0..2 * many).filter(|&number| failures.count(IpAddr::V4(number.into()), now).is_none());
        assert_eq!(let_in.count(), Failures::MOST_PEERS + 20, "those beyond share one count");
        let count = || failures.counted.lock().expect("not poisoned").by_peer.len();
        assert_eq!(count(), Failures::MOST_PEERS + 1);
        assert_eq!(failures.count(address("192.0.2.1"), now + Failures::WINDOW), None);
        assert_eq!(count(), 1, "the old ones went");
    }
}
