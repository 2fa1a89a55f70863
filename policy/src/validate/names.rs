// SPDX-License-Identifier: Apache-2.0
//! What Kubernetes lets things be called.

/// RFC 1123 label: what a namespace and a container may be called.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// RFC 1123 subdomain: what most objects may be called.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// A label's key: a name, with a DNS subdomain and `/` before it or not.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

/// A label's value: a name, or nothing.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// `2026-01-31T09:00:00Z`: the one form that the API server writes, and that sorts as text.
pub(super) fn is_timestamp(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00Z";
    text.len() == form.len()
        && text.bytes().zip(form).all(|(b, f)| {
            if *f == b'0' {
                b.is_ascii_digit()
            } else {
                b == *f
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_kubernetes_labels() {
        for key in ["app", "a.b/c", "App_1.x", "app.kubernetes.io/name"] {
            assert!(is_label_key(key), "{key}");
        }
        let long = "x".repeat(64);
        for key in ["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a-", "a b", &long] {
            assert!(!is_label_key(key), "{key}");
        }
        for value in ["", "true", "v1.2_3-x"] {
            assert!(is_label_value(value), "{value}");
        }
        for value in ["a/b", "-", "a ", &long] {
            assert!(!is_label_value(value), "{value}");
        }
    }
}
