//! Words of closed lists: written in one letter case on the wire and in the tables, read in any.

/// Text that is none of the words of a list. Displays as the rule that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownTerm(pub &'static str);

/// Declares enums whose variants are the words of a closed list, with text, serde and the list of all.
#[macro_export]
macro_rules! define_terms {
    ($($(#[$doc:meta])* $name:ident {
        $(#[$first_doc:meta])* $first:ident = $first_text:literal,
        $($(#[$term_doc:meta])* $term:ident = $text:literal,)*
    })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[$first_doc])* $first,
            $($(#[$term_doc])* $term,)*
        }

        impl $name {
            /// Every one, in the order of the documentation.
            pub const ALL: &[Self] = &[Self::$first, $(Self::$term),*];

            /// As it is written on the wire and in the tables.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $(Self::$term => $text,)*
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::kit::terms::UnknownTerm;

            /// Any letter case.
            fn from_str(text: &str) -> Result<Self, $crate::kit::terms::UnknownTerm> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|term| term.as_str().eq_ignore_ascii_case(text))
                    .ok_or($crate::kit::terms::UnknownTerm(concat!($first_text $(, ", ", $text)*)))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "enum": [$first_text $(, $text)*]})
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
