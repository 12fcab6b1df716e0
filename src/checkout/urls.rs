//! Where a browser may be sent: absolute http(s), https only where money is real, no user info.

use url::Url;

use crate::tenancy::Mode;

/// What a merchant writes where the session's id is to stand.
const PLACEHOLDER: &str = "{CHECKOUT_SESSION_ID}";
const ENCODED_PLACEHOLDER: &str = "%7BCHECKOUT_SESSION_ID%7D";
const MAX_BYTES: usize = 2048;

/// The rule that `text` breaks as a redirect URL, if any.
pub fn broken_rule(text: &str, mode: Mode) -> Option<&'static str> {
    if text.len() > MAX_BYTES {
        return Some("must have at most 2048 characters");
    }
    // The parser forgives what browsers forgive (`https:host`, backslashes, tabs); merchants mean what they write.
    let lower = text.to_ascii_lowercase();
    let absolute = lower.starts_with("http://") || lower.starts_with("https://");
    if !absolute || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Some("must be an absolute http(s) URL");
    }
    let Some(url) =
        Url::parse(&with_session_id(text, "chk_00000000000000000000000000")).ok().filter(Url::has_host)
    else {
        return Some("must be an absolute http(s) URL");
    };
    // Looked for in the text: the parser drops an empty user name.
    let authority = text.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Some("must not contain a user name or password");
    }
    if mode == Mode::Live && url.scheme() != "https" {
        return Some("must be https in a live environment");
    }
    None
}

/// `text` with the session's id in place of the placeholder, written raw or percent-encoded.
pub fn with_session_id(text: &str, id: &str) -> String {
    text.replace(PLACEHOLDER, id).replace(ENCODED_PLACEHOLDER, id).replace(
        &ENCODED_PLACEHOLDER.to_ascii_lowercase().replace("checkout_session_id", "CHECKOUT_SESSION_ID"),
        id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_placeholder_wherever_it_stands() {
        for (text, expected) in [
            ("https://a.example/w?session_id={CHECKOUT_SESSION_ID}", "https://a.example/w?session_id=chk_1"),
            (
                "https://a.example/{CHECKOUT_SESSION_ID}/done#{CHECKOUT_SESSION_ID}",
                "https://a.example/chk_1/done#chk_1",
            ),
            ("https://a.example/?s=%7BCHECKOUT_SESSION_ID%7D", "https://a.example/?s=chk_1"),
            ("https://a.example/?s=%7bCHECKOUT_SESSION_ID%7d", "https://a.example/?s=chk_1"),
            ("https://a.example/", "https://a.example/"),
        ] {
            assert_eq!(with_session_id(text, "chk_1"), expected);
        }
    }

    #[test]
    fn takes_absolute_http_urls_only() {
        for text in [
            "https://a.example/w@x?s={CHECKOUT_SESSION_ID}&to=b://c@d",
            "http://localhost:3000/x",
            "HTTPS://A.example",
        ] {
            assert_eq!(broken_rule(text, Mode::Test), None, "{text}");
        }
        for text in [
            "",
            "/welcome",
            "//evil.example",
            "https:evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://a.example",
            "https://",
            "https://a.example/\r\nSet-Cookie: x",
            "https://a.example/\\evil",
            "https://user@a.example/",
            "https://user:pw@a.example/",
            "https://@a.example/",
            " https://a.example",
            "https://exa mple.com",
        ] {
            assert!(broken_rule(text, Mode::Test).is_some(), "{text:?}");
        }
        assert!(broken_rule(&format!("https://a.example/{}", "x".repeat(2048)), Mode::Test).is_some());
        assert!(broken_rule("http://a.example/", Mode::Live).is_some());
        assert!(broken_rule("https://a.example/", Mode::Live).is_none());
    }
}
