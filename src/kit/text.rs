//! Text from outside, as it can be kept.

/// Text as it is stored and shown: not longer than `limit` characters, and without U+0000, the one that Postgres
/// cannot hold.
pub fn bounded(text: &str, limit: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_whole_characters_that_postgres_can_hold() {
        assert_eq!(bounded("\0ह\0ello", 3), "हel");
        assert_eq!(bounded("", 3), "");
    }
}
