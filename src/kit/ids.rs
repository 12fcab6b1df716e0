//! Identifiers: UUID version 7 inside and in Postgres, `prefix_` + 26 Crockford base32 characters outside.
//!
//! Time-ordered, so that new rows land at the end of their indexes; at most 40 characters, because a
//! session's id is its `reference_id` at Razorpay.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::clock::Clock;

/// A typed identifier with its own text form.
pub trait Id: Copy + From<Uuid> + Into<Uuid> {
    /// What the text form starts with, without the underscore: `chk`, `cust` …
    const PREFIX: &'static str;
}

/// The source of every id and random value; seeded in tests, so that runs are reproducible.
#[derive(Clone)]
pub struct Ids {
    rng: Arc<Mutex<StdRng>>,
    clock: Clock,
}

impl Ids {
    /// Ids from the operating system's entropy.
    pub fn random(clock: Clock) -> Self {
        Self::from_rng(rand::make_rng(), clock)
    }

    /// The same ids on every run.
    pub fn seeded(seed: u64, clock: Clock) -> Self {
        Self::from_rng(StdRng::seed_from_u64(seed), clock)
    }

    fn from_rng(rng: StdRng, clock: Clock) -> Self {
        Self { rng: Arc::new(Mutex::new(rng)), clock }
    }

    /// A new id of type `T`.
    pub fn next<T: Id>(&self) -> T {
        self.uuid().into()
    }

    /// A new time-ordered UUID, for rows that are never shown.
    pub fn uuid(&self) -> Uuid {
        let random: [u8; 10] = self.bytes();
        let millis = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// `N` unpredictable bytes (`ChaCha`, seeded by the operating system outside tests).
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        // A panic while the lock was held cannot leave the generator half-changed in a way that matters.
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A uniform value in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        let bits = u32::from_be_bytes(self.bytes());
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// `length` random characters of base62.
    pub fn base62(&self, length: usize) -> String {
        let mut text = String::with_capacity(length);
        while text.len() < length {
            // Bytes from 248 on would make the first characters likelier.
            let [byte] = self.bytes();
            if byte < 248 {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
        text
    }
}

/// The digits of base62, in the order of their values.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Writes `prefix_` and 26 base32 characters.
pub fn encode(prefix: &str, uuid: Uuid) -> String {
    let value = uuid.as_u128();
    let mut text = String::with_capacity(prefix.len() + 27);
    text.push_str(prefix);
    text.push('_');
    for position in (0..26).rev() {
        // Five bits at a time; the mask keeps the index below 32.
        let index = (value >> (position * 5)) & 31;
        text.push(char::from(CROCKFORD[index as usize]));
    }
    text
}

/// Reads what [`encode`] wrote; `None` for anything else, other letter case included, so that an
/// object has exactly one name.
pub fn decode(prefix: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('_')?;
    if digits.len() != 26 || digits.as_bytes()[0] > b'7' {
        return None;
    }
    let mut value: u128 = 0;
    for digit in digits.bytes() {
        let index = CROCKFORD.iter().position(|&character| character == digit)?;
        value = (value << 5) | index as u128;
    }
    Some(Uuid::from_u128(value))
}

/// Text that is not an id of the wanted type.
#[derive(Debug, thiserror::Error)]
#[error("not an id that starts with {0}_")]
pub struct MalformedId(pub &'static str);

/// Declares newtypes over UUID with their prefix, text form, serde and Postgres mapping.
#[macro_export]
macro_rules! define_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(uuid::Uuid);

        impl $crate::kit::ids::Id for $name {
            const PREFIX: &'static str = $prefix;
        }
        impl From<uuid::Uuid> for $name {
            fn from(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
        }
        impl From<$name> for uuid::Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::kit::ids::encode($prefix, self.0))
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::kit::ids::MalformedId;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::kit::ids::decode($prefix, text).map(Self).ok_or($crate::kit::ids::MalformedId($prefix))
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "_[0-7][0-9A-HJKMNP-TV-Z]{25}$"),
                })
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back_and_has_one_form() {
        for uuid in [Uuid::nil(), Uuid::max(), Uuid::from_u128(0x0193_5c8e_7a10_7000_8000_0000_dead_beef)] {
            let text = encode("chk", uuid);
            assert_eq!(text.len(), 30);
            assert_eq!(decode("chk", &text), Some(uuid));
            assert_eq!(decode("inv", &text), None);
            if text.contains(|c: char| c.is_ascii_uppercase()) {
                assert_eq!(decode("chk", &text.to_lowercase()), None);
            }
        }
        assert_eq!(decode("chk", "chk_8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None, "more than 128 bits");
        assert_eq!(decode("chk", "chk_"), None);
        assert_eq!(decode("chk", "chk_0000000000000000000000000é"), None);
    }
}
