//! Names from outside: which of them may become part of a path.

/// Longest name of a file that every file system takes, less room for what is appended to it.
const MAX_COMPONENT: usize = 200;

/// Whether `name` can be one component of a path, on every system: nothing that leaves a folder, names a device,
/// or means something to a file system.
pub(crate) fn is_component(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_COMPONENT
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| c.is_control() || "/\\:*?\"<>|".contains(c))
        && !is_device(name)
}

/// Whether `path` is relative, uses `/`, and stays below the folder it is joined to.
pub(crate) fn is_relative_path(path: &str) -> bool {
    path.len() <= 1024 && path.split('/').all(is_component)
}

/// Names that Windows takes for devices, whatever follows the first dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_ascii_uppercase();
    let numbered = |prefix| {
        stem.strip_prefix(prefix)
            .is_some_and(|rest: &str| rest.chars().count() == 1 && rest != "0")
    };
    matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) || numbered("COM")
        || numbered("LPT")
}

/// Percent-encodes everything but unreserved characters and those in `keep`.
pub(crate) fn url_encode(text: &str, keep: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Text from a server as part of a message: one line, not too long, no control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_folder() {
        for path in [
            "config.json",
            "a/b.json",
            "..a",
            ".gitattributes",
            "model-00001-of-00002.safetensors",
            "console.json",
            "com10",
            "ünïcode",
        ] {
            assert!(is_relative_path(path), "{path}");
        }
        for path in [
            "", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "a\\b", "..\\a", "C:a",
            "a\0b", "a\nb", "NUL", "nul.json", "a/CON", "com1.txt", "LPT9", "a.", "a ", "a?b",
            "a*", "aux .txt",
        ] {
            assert!(!is_relative_path(path), "{path:?}");
        }
        assert!(!is_relative_path(&"a".repeat(201)));
        assert!(!is_relative_path(&"a/".repeat(600)));
    }

    #[test]
    fn encoding_keeps_what_is_harmless() {
        assert_eq!(url_encode("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(
            url_encode("a b/c#?é%.json", "/"),
            "a%20b/c%23%3F%C3%A9%25.json"
        );
    }
}
