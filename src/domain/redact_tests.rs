use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::new);

fn redact(text: &str) -> String {
    REDACTOR.redact(text, 10_000).as_str().to_owned()
}

/// A secret and the part of it that must not survive.
const PLANTED: &[(SecretKind, &str, &str)] = &[
    (
        SecretKind::Pem,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpQIBAAKCAQ\n-----END RSA PRIVATE KEY-----",
        "MIIEpQIBAAKCAQ",
    ),
    (SecretKind::Pem, "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBkg", "MHcCAQEEIBkg"),
    (SecretKind::Jwt, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4", "SflKxwRJSMeKKF2QT4"),
    (SecretKind::Key, "AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    (SecretKind::Key, "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c"),
    (SecretKind::Key, "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOHcbrzygy", "pdFZKVeTuE8sk7oOHcbrzygy"),
    (SecretKind::Key, "sk-proj-abcdEFGH1234ijklMNOP5678", "abcdEFGH1234"),
    (SecretKind::Key, "AIzaSyA1234567890abcdefghijklmnopqrstuv", "SyA1234567890"),
    (SecretKind::Authorization, "Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l", "YWxhZGRpbjpvcGVuc2VzYW1l"),
    (SecretKind::Authorization, "bearer abcdefgh12345678", "abcdefgh12345678"),
    (SecretKind::UrlUserinfo, "postgres://shop:s3cr3t@db:5432/shop", "s3cr3t"),
    (SecretKind::UrlUserinfo, "postgres://shop:s3c@r3t@db:5432/shop", "r3t@"),
    (SecretKind::Credential, "password=hunter2xyz", "hunter2xyz"),
    (SecretKind::Credential, r#""password": "hunter 2xyz""#, "2xyz"),
    (SecretKind::Credential, r#"\"db_password\": \"hunter2xyz\""#, "hunter2xyz"),
    (SecretKind::Credential, "SHOP_TOKEN=hunter2xyz", "hunter2xyz"),
    (
        SecretKind::Credential,
        r#"v1.EnvVar{Name:"SHOP_API_KEY", Value:"hunter2xyz", ValueFrom:(*v1.EnvVarSource)(nil)}"#,
        "hunter2xyz",
    ),
    (SecretKind::Credential, r#"{"name":"DB_PASSWORD","value":"hunter2xyz"}"#, "hunter2xyz"),
    (SecretKind::Email, "jane.doe+shop@example.co.uk", "jane.doe"),
    (SecretKind::Ip, "192.0.2.17", "192.0.2.17"),
    (SecretKind::Ip, "2001:db8::8a2e:370:7334", "8a2e"),
    (SecretKind::Card, "4111 1111 1111 1111", "1111 1111"),
    (SecretKind::Card, "5500-0000-0000-0004", "5500-0000"),
];

#[test]
fn every_pattern_compiles() {
    assert_eq!(Redactor::new().patterns.len(), PATTERNS.len());
}

#[test]
fn every_class_is_named_counted_and_gone() {
    for (kind, secret, hidden) in PLANTED {
        let (text, counts) = REDACTOR.redact_counted(&format!("at first {secret} and then"), 10_000);
        assert!(!text.as_str().contains(hidden), "{secret} -> {text}");
        assert!(text.as_str().starts_with("at first "), "{text}");
        assert_eq!(counts.get(kind), Some(&1), "{secret} -> {text}: {counts:?}");
    }
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "deployments.apps \"api\" is forbidden: exceeded quota: compute, requested: limits.cpu=2, used: limits.cpu=3",
        "quantities must match the regular expression at 10:42:17",
        "admission webhook \"validate.kyverno.svc-fail\" denied the request: tag latest is not allowed",
        "image registry.example/shop/api@sha256:0b1f at 2026-11-20T10:00:00Z, version 1.2.3, 4111 pods",
        "std::sync::Arc and a::b",
        "the token was refused",
    ] {
        assert_eq!(redact(text), text);
    }
}

#[test]
fn a_url_keeps_scheme_and_host() {
    assert_eq!(redact("to amqp://u:p@mq/vhost"), "to amqp://[redacted:url-userinfo]@mq/vhost");
}

#[test]
fn a_cut_never_leaves_half_a_mark() {
    for max in 0..40 {
        let kept = REDACTOR.redact("see password=hunter2xyz now", max);
        assert!(kept.as_str().chars().count() <= max);
        assert!(kept.as_str().matches('[').count() == kept.as_str().matches(']').count(), "{kept}");
    }
}

/// Text that cannot continue a secret to its left or right, as it stands between separators.
fn surroundings() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,60}", "([a-z]{1,8}[ :=\"{}\\\\'@/,.-]){0,12}", "[0-9a-f:. -]{0,40}"]
}

proptest! {
    #[test]
    fn planted_secrets_never_survive(
        before in surroundings(), after in surroundings(), which in 0..PLANTED.len(), max in 0_usize..400,
    ) {
        let (_, secret, hidden) = PLANTED[which];
        let text = format!("{before}\n {secret} \n{after}");
        let kept = REDACTOR.redact(&text, max);
        prop_assume!(!before.contains(hidden) && !after.contains(hidden));
        prop_assert!(!kept.as_str().contains(hidden), "{text:?} -> {kept:?}");
        prop_assert!(kept.as_str().chars().count() <= max);
    }

    #[test]
    fn redacting_twice_changes_nothing(
        before in surroundings(), after in surroundings(), which in 0..PLANTED.len(), max in 0_usize..400,
    ) {
        let (_, secret, _) = PLANTED[which];
            let once = REDACTOR.redact(&format!("{before}{secret}{after}"), max);
        let twice = REDACTOR.redact(once.as_str(), max);
        prop_assert_eq!(twice.as_str(), once.as_str());
    }
}

#[test]
fn a_cut_that_leaves_what_looks_like_a_secret_is_redacted_once_more() {
    let text = format!("key {}a", "AKIAIOSFODNN7EXAMPLE");
    let kept = REDACTOR.redact(&text, 24);
    assert!(!kept.as_str().contains("AKIA"), "{kept:?}");
    assert_eq!(REDACTOR.redact(kept.as_str(), 24), kept);
}
