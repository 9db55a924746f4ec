//! Checked JSON (format.md §1.1): one JSON object whose last member is the SHA-256 of everything
//! before it.
//!
//! The checksum detects damage; it does not authenticate. The meaning of the members is left to the
//! caller.

use sha2::{Digest, Sha256};

/// The bytes before the hex digits of the checksum.
const MEMBER: &str = ",\"checksum\":\"";
/// The bytes after them.
const END: &str = "\"}\n";
/// Number of hex digits of a SHA-256.
const DIGITS: usize = 64;

/// Appends the checksum member and the newline to `body`, a compact JSON object `{…}` with at least
/// one member.
pub fn finish(mut body: String) -> String {
    if body.ends_with('}') {
        body.pop();
    }
    let checksum = crate::id::to_hex(&Sha256::digest(body.as_bytes()));
    body.reserve(MEMBER.len() + DIGITS + END.len());
    body.push_str(MEMBER);
    body.push_str(&checksum);
    body.push_str(END);
    body
}

/// Returns the text of a file whose checksum is right, else `None`. The text still has its
/// `checksum` member, which readers ignore like any unknown member. It may not be valid JSON: only
/// the checksum is checked.
pub fn verify(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let rest = text.strip_suffix(END)?;
    // split_at_checked also refuses a split inside a character
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let body = rest.strip_suffix(MEMBER)?;
    let stated: [u8; DIGITS / 2] = crate::id::from_hex(digits)?;
    (body.starts_with('{') && Sha256::digest(body.as_bytes()).as_slice() == stated).then_some(text)
}

/// True when `bytes` have the form of the checksum member and the end of a file. The checksum
/// itself is checked by [`verify`].
pub fn is_end(bytes: &[u8]) -> bool {
    bytes.len() == MEMBER.len() + DIGITS + END.len() && bytes.starts_with(MEMBER.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_object_verifies_and_parses() {
        let text = finish("{\"version\":1,\"name\":\"é\"}".into());
        let known = "{\"version\":1,\"name\":\"é\",\"checksum\":\"";
        assert!(text.starts_with(known) && text.ends_with("\"}\n"));
        assert_eq!(verify(text.as_bytes()), Some(text.as_str()));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], 1);
    }

    #[test]
    fn the_checksum_is_the_sha_256_of_the_bytes_before_it() {
        // printf '{"a":1' | sha256sum
        assert_eq!(
            finish("{\"a\":1}".into()),
            "{\"a\":1,\"checksum\":\"8b0f0d75aabe01bbfba9341752c2cf7626f154e676aa791427b31aebfabc2592\"}\n"
        );
    }

    #[test]
    fn verify_detects_any_changed_byte() {
        let good = finish("{\"version\":1,\"checksum\":\"inner\",\"x\":\"ä\"}".into()).into_bytes();
        assert!(verify(&good).is_some());
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(verify(&bad), None, "byte {at} bit {bit}");
            }
        }
        for len in 0..good.len() {
            assert_eq!(verify(&good[..len]), None);
        }
        let mut longer = good;
        longer.push(b'\n');
        assert_eq!(verify(&longer), None);
    }

    #[test]
    fn verify_refuses_text_that_is_not_checked_json() {
        let digits = "0".repeat(64);
        for text in [
            "",
            "{}",
            "\"}\n",
            &format!("{digits}\"}}\n"),
            &format!("é{}\"}}\n", "0".repeat(63)),
        ] {
            assert_eq!(verify(text.as_bytes()), None, "{text}");
        }
        assert_eq!(verify(&[0xff; 200]), None);
    }
}
