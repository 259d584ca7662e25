//! The one script of the page, which sorts tables, and the hash that lets a browser run nothing else.

/// SHA-256 of `templates/report.js`, as the page's policy names it. A test holds it, and says what it is to be.
pub(super) const HASH: &str = "sha256-qwhirLmmcpqJ0mg0XRc3QXXrvnw5M6lY2l1HkJ3uR1k=";

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::HASH;

    const SCRIPT: &str = include_str!("../../../templates/report.js");

    /// RFC 4648, of whole groups and one of two bytes: SHA-256 has 32.
    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = (0..3).fold(0_usize, |bits, at| {
                bits << 8 | usize::from(group.get(at).copied().unwrap_or(0))
            });
            for at in 0..4 {
                let is_used = at <= group.len();
                text.push(if is_used {
                    char::from(LETTERS[bits >> (18 - 6 * at) & 63])
                } else {
                    '='
                });
            }
        }
        text
    }

    #[test]
    fn the_policy_names_the_script_that_is_in_the_page() {
        assert_eq!(base64(b"socktrace"), "c29ja3RyYWNl");
        assert_eq!(base64(b"ab"), "YWI=");
        let page = super::super::whole_page::empty_page();
        let script = page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>"));
        let (script, _) = script.expect("the page has a script");
        assert_eq!(script, SCRIPT.trim_end(), "askama changed it");
        let hash = format!("sha256-{}", base64(&Sha256::digest(script)));
        assert_eq!(HASH, hash, "write this down as the HASH");
        assert!(page.contains(&format!("script-src '{hash}'")), "{page}");
    }
}
