use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::new);

fn redact(text: &str) -> String {
    REDACTOR.redact(text, 10_000).as_str().to_owned()
}

/// A secret and the part of it that must not survive.
pub(crate) const PLANTED: &[(SecretKind, &str, &str)] = &[
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
    (
        SecretKind::Pem,
        r"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----\n",
        "BAQEFAASCBKc",
    ),
    (SecretKind::Pem, "Qk1vHb2uY0Jc9LkD8s1Zt==\n-----END RSA PRIVATE KEY-----", "Qk1vHb2uY0Jc"),
    (SecretKind::Pem, "\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n", "9w0BAQEFAASC"),
    (SecretKind::Key, "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "bPxRfiCY"),
    (SecretKind::Key, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY, AKIAIOSFODNN7EXAMPLE", "bPxRfiCY"),
    (
        SecretKind::Key,
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY, AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEZ, AKIAIOSFODNN7EXAMPLE",
        "bPxRfiCY",
    ),
    (SecretKind::Credential, "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "bPxRfiCY"),
    (SecretKind::Key, "GOCSPX-a1B2c3D4e5F6g7H8i9J0", "c3D4e5F6"),
    (SecretKind::Key, "glpat-xY7zAb3Cd9Ef1Gh5Ij2K", "b3Cd9Ef1"),
    (SecretKind::Key, "sk-ant-api03-Zx9Yw8Vu7Ts6Rq5Po4-Nm3Lk2", "w8Vu7Ts6"),
    (SecretKind::Key, "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "yjWDarjt"),
    (SecretKind::Key, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "KYqrTwjU"),
    (SecretKind::Key, "SK0123456789abcdef0123456789abcdef", "56789abcdef"),
    (SecretKind::Key, "SG.ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf09kqeF8tAmbihYzrnopKc", "HoTf09kq"),
    (SecretKind::Key, "npm_4fDk2LmNoPq7RsTuVwXyZ0123456789aBcDe", "oPq7RsTu"),
    (SecretKind::Key, "hf_QwErTy1234567890uIoPaSdFgHjKl", "34567890"),
    (SecretKind::Key, "dapi0123456789abcdef0123456789abcdef", "56789abcdef"),
    (SecretKind::Key, "hvs.CAESIJ1a2B3c4D5e6F7g8H9i0J", "1a2B3c4D"),
    (SecretKind::Key, "xYz8Q~AbCdEfGhIjKlMnOpQrStUvWxYz0123456", "GhIjKlMn"),
    (SecretKind::Key, "https://hooks.slack.com/services/T00000000/B00000000/XXXXabcd1234", "XXXXabcd1234"),
    (SecretKind::Key, "https://discord.com/api/webhooks/123456789/AbCdEf_12345", "AbCdEf_12345"),
    (SecretKind::Key, "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawq", "vGWJxfSe"),
    (
        SecretKind::Credential,
        "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=q1W2e3R4t5Y6u7I8o9P0+/==;EndpointSuffix=x",
        "e3R4t5Y6",
    ),
    (SecretKind::Credential, "https://shop.blob.example/c?sv=2024-01-01&sig=aB3%2Fd5F7h9J1k3%3D&se=2026", "d5F7h9J1"),
    (SecretKind::Credential, "Endpoint=sb://x/;SharedAccessKeyName=root;SharedAccessKey=Zx9Yw8Vu7Ts6=", "w8Vu7Ts6"),
    (
        SecretKind::Authorization,
        "Authorization: Digest username=\"joe\", response=\"6629fae49393a053\"",
        "6629fae49393",
    ),
    (SecretKind::Authorization, "map[Authorization:[Bearer a1b2c3d4e5f6] Accept:[*/*]]", "a1b2c3d4e5f6"),
    (SecretKind::Authorization, "{\"authorization\":\"Bearer a1b2c3d4e5f6\",\"x\":1}", "a1b2c3d4e5f6"),
    (SecretKind::Authorization, "Cookie: theme=dark; sid=a1b2c3d4e5f6", "a1b2c3d4e5f6"),
    (SecretKind::UrlUserinfo, "postgres://shop:hun/ter2xyz9@db/shop", "ter2xyz9"),
    (SecretKind::UrlUserinfo, "redis://:hunter2xyz@cache:6379/0", "hunter2xyz"),
    (SecretKind::UrlUserinfo, "shop:hunter2xyz@tcp(db:3306)/shop", "hunter2xyz"),
    (SecretKind::UrlUserinfo, "shop:hunter2xyz@db:5432", "hunter2xyz"),
    (SecretKind::UrlUserinfo, "url=postgres%3A%2F%2Fshop%3Ahunter2xyz%40db", "hunter2xyz"),
    (SecretKind::Credential, "password%3Dhunter2xyz%26user", "hunter2xyz"),
    (SecretKind::Credential, "{\"password\":\"hun\\\"ter2xyz9\"}", "ter2xyz9"),
    (SecretKind::Credential, "{Host:db Port:5432 User:shop Password:hunter2xyz}", "hunter2xyz"),
    (SecretKind::Credential, "Config { user: \"shop\", password: Some(\"hunter2xyz\") }", "hunter2xyz"),
    (SecretKind::Credential, "Secret:[]byte{0x68, 0x75, 0x6e, 0x74}", "0x68, 0x75"),
    (SecretKind::Credential, "Token:[104 117 110 116 101 114]", "117 110 116"),
    (SecretKind::Credential, "map[X-Api-Key:[hunter2xyz]]", "hunter2xyz"),
    (SecretKind::Credential, "Server=db;User Id=shop;Password=hunter2xyz;", "hunter2xyz"),
    (SecretKind::Credential, "host=db user=shop password='hunter 2xyz99' sslmode=disable", "2xyz99"),
    (SecretKind::Credential, "--db-password hunter2xyz --port 80", "hunter2xyz"),
    (SecretKind::Credential, "[\"--token\", \"hunter2xyz\"]", "hunter2xyz"),
    (SecretKind::Credential, "mysql -h db -u shop -p hunter2xyz shop", "hunter2xyz"),
    (SecretKind::Credential, "mysqldump -ushop -phunter2xyz shop", "hunter2xyz"),
    (SecretKind::Credential, "curl -s -u shop:hunter2xyz http://api", "hunter2xyz"),
    (SecretKind::Credential, "\nDB_PASSWORD=correct horse battery\n", "horse battery"),
    (SecretKind::Credential, "\nexport SHOP_SIGNING_KEY=ab&cd;ef hunter2xyz\n", "hunter2xyz"),
    (SecretKind::Credential, "\n  password: correct horse battery\n", "horse battery"),
    (SecretKind::Credential, "<dbPassword>hunter2xyz</dbPassword>", "hunter2xyz"),
    (SecretKind::Credential, "'password' => 'hunter2xyz'", "hunter2xyz"),
    (SecretKind::Credential, "&quot;password&quot;:&quot;hunter2xyz&quot;", "hunter2xyz"),
    (SecretKind::Credential, "{\"auths\":{\"r.example\":{\"auth\":\"c2hvcDpodW50ZXIy\"}}}", "c2hvcDpodW50"),
    (SecretKind::Credential, "password authentication with password \"hunter2xyz\"", "hunter2xyz"),
    (SecretKind::Credential, "password=[redacted:hunter2xyz]", "hunter2xyz"),
    (SecretKind::Email, "by=jane.doe%40example.com", "jane.doe"),
    (SecretKind::Email, "jane.doe+shop@example.co.uk", "jane.doe"),
    (SecretKind::Ip, "192.0.2.17", "192.0.2.17"),
    (SecretKind::Ip, "2001:db8::8a2e:370:7334", "8a2e"),
    (SecretKind::Ip, "ip-192-0-2-17.ec2.internal", "192-0-2"),
    (SecretKind::Ip, "[2001:db8::8a2e:370:7334]:443", "8a2e"),
    (SecretKind::Card, "card 2024 4111111111111111", "41111111"),
    (SecretKind::Card, "371449635398431", "37144963"),
    (SecretKind::Card, "4111 1111 1111 1111", "1111 1111"),
    (SecretKind::Card, "5500-0000-0000-0004", "5500-0000"),
];

#[test]
fn every_pattern_compiles() {
    assert_eq!(Redactor::new().patterns.len(), patterns::COUNT);
}

#[test]
fn every_class_is_named_counted_and_gone() {
    for (kind, secret, hidden) in PLANTED {
        let (text, counts) = REDACTOR.redact_counted(&format!("at first {secret} and then"), 10_000);
        assert!(!text.as_str().contains(hidden), "{secret} -> {text}");
        assert!(text.as_str().starts_with("at first "), "{text}");
        assert!(counts.get(kind).is_some_and(|count| *count >= 1), "{secret} -> {text}: {counts:?}");
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
        "2026-11-21T10:42:17.123456789Z INFO listening on 0.0.0.0:8080 (took 1.532ms)",
        "dial tcp 127.0.0.1:5432: connect: connection refused",
        "panicked at src/cache/store.rs:214:17: called `Option::unwrap()` on a `None` value",
        "at com.example.shop.Cart.add(Cart.java:42) ~[app.jar!/:1.4.2]",
        "std::collections::HashMap::get at 0x7f3a9c1d2e40",
        "request 3f2504e0-4f89-41d3-9a0c-0305e82c3301 took 1500ms, 20 retries, status=503",
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 level=warn",
        "pulled shop/api:v1.4.2@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "unexpected token: '}' at line 3 column 14",
        "max_tokens=2048 completion_tokens: 55 token_type=bearer",
        "token: expired at 10:42:17, refresh required",
        "password authentication failed for user shop",
        "invalid password: must have at least 8 characters",
        "Basic authentication is required",
        "pass: 12 fail: 0 skip: 3",
        "MountVolume.SetUp failed for volume \"creds\" : secret \"db-credentials\" not found",
        "secretName: db-credentials, password_file=/run/secrets/db, PWD=/srv/app",
        "signal: killed, design=flat, assigned=3",
        "timestamps 1700000000000 and 1700000000000000000, offset 9007199254740991",
        "duplicate key value violates unique constraint pk_customer_orders_2024",
        "GET /api/v1/orders?page=2&limit=50 200 12ms",
        "goroutine 17 [running]: main.main.func1(0xc000012345, 0x1)",
        "password=null token=<nil> secret=\"\" api_key=****",
        "npm_config_user_agent_for_tests_v10 is not set",
        "see http://api:8080/v1/x?limit=20 and https://example.com/docs#a",
        "kernel 6.8.0-45-generic, go1.26.1, v10.2.3-rc.1+build.5",
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
    fn random_passwords_never_survive_in_whole_or_in_part(
        secret in "[A-Za-z0-9!#$%*+/=?@^_~-]{6,24}[0-9]", form in 0_usize..14, key in prop::sample::select(vec![
            "password", "DB_PASSWORD", "dbPasswd", "api-key", "apiKey", "client_secret", "auth_token", "ACCESS_TOKEN",
            "aws_secret_access_key", "session_id", "private_key", "pwd", "passphrase", "webhook-key",
        ]),
    ) {
        let text = match form {
            0 => format!("{{\"user\":\"joe\",\"{key}\":\"{secret}\"}}"),
            1 => format!("{{\\\"user\\\":\\\"joe\\\",\\\"{key}\\\":\\\"{secret}\\\"}}"),
            2 => format!("user=joe {key}={secret} n=1"),
            3 => format!("user=joe {key}=\"{secret}\" n=1"),
            4 => format!("user: joe\n{key}: {secret}\nn: 1"),
            5 => format!("user: joe, {key}: '{secret}', n: 1"),
            6 => format!("{{User:joe {key}:{secret} N:1}}"),
            7 => format!("Conf {{ {key}: \"{secret}\", n: 1 }}"),
            8 => format!("run --{key}={secret} --n 1"),
            9 => format!("run --{key} {secret} --n 1"),
            10 => format!("Server=db;{key}={secret};n=1"),
            11 => format!("{{\"name\":\"{key}\",\"value\":\"{secret}\"}}"),
            12 => format!("<{key}>{secret}</{key}>"),
            _ => format!("map[N:[1] {key}:[{secret}]]"),
        };
        // A flag is no value, and what stands for nothing is not hidden.
        prop_assume!(form != 9 || !secret.starts_with('-'));
        // A folder, also behind `:=` and `=>`.
        prop_assume!(!(key == "pwd" && secret.trim_start_matches(['=', '>']).starts_with('/')));
        let kept = redact(&text);
        for part in secret.as_bytes().windows(secret.len().min(8)) {
            let part = std::str::from_utf8(part).unwrap();
            prop_assert!(!kept.contains(part), "{} -> {}", text, kept);
        }
        prop_assert_eq!(redact(&kept), kept);
    }

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

static KEYED: LazyLock<Redactor> = LazyLock::new(|| Redactor::new().keyed(b"a key of this cluster"));

#[test]
fn with_a_key_equal_values_stay_recognisable_and_others_differ() {
    let text = KEYED.redact("from 192.0.2.17 to 192.0.2.18, again 192.0.2.17", 1000).to_string();
    let marks: Vec<&str> = text.split(['[', ']']).filter(|part| part.starts_with("redacted:ip:")).collect();
    let [first, second, third] = marks.as_slice() else { panic!("{text}") };
    assert!(first == third && first != second, "{text}");
    assert_eq!(first.len(), "redacted:ip:".len() + PSEUDONYM);
    let other = Redactor::new().keyed(b"another key").redact("192.0.2.17", 100).to_string();
    assert!(!other.contains(first), "{other}");
    assert_eq!(KEYED.redact(&text, 1000).as_str(), text);
    let quoted = KEYED.redact("password=hunter2xyz or \"password\":\"hunter2xyz\"", 1000).to_string();
    assert_eq!(quoted.matches(quoted.split(':').nth(2).unwrap().get(..PSEUDONYM).unwrap()).count(), 2, "{quoted}");
}

#[test]
fn quotes_and_brackets_stay_so_that_json_stays_json() {
    for (text, kept) in [
        (r#"{"password":"hunter2xyz","n":1}"#, r#"{"password":"[redacted:credential]","n":1}"#),
        (r#"{"m":"{\"token\":\"hunter2xyz\"}"}"#, r#"{"m":"{\"token\":\"[redacted:credential]\"}"}"#),
        ("{Password:hunter2xyz N:1}", "{Password:[redacted:credential] N:1}"),
        ("a=1&api_key=hunter2xyz&b=2", "a=1&api_key=[redacted:credential]&b=2"),
    ] {
        assert_eq!(redact(text), kept);
    }
}

#[test]
fn patterns_of_users_are_added() {
    let patterns =
        vec![r"\bEMP-[0-9]{6}\b".to_owned(), r"order (?P<secret>[A-Z]{2}[0-9]+)".to_owned(), "[a-z]+ed".to_owned()];
    let redactor = Redactor::new().with(&patterns).unwrap();
    let once = redactor.redact("EMP-123456 asked for order DE998", 1000);
    assert_eq!(once.as_str(), "[redacted:custom] [redacted:custom] for order [redacted:custom]");
    assert_eq!(redactor.redact(once.as_str(), 1000), once);
}

#[test]
fn patterns_that_cannot_be_used_say_so_and_name_the_cure() {
    for (pattern, cure) in [
        ("(", "is no regular expression"),
        ("a(?=b)", "look-around and back-references do not exist here"),
        ("x*", "use + instead of *"),
        (r"\w{1000}", "becomes too large; use smaller counts"),
        (&"x".repeat(600), "is longer than 512 bytes; split it"),
    ] {
        let error = Redactor::new().with(&["ok".to_owned(), pattern.to_owned()]).unwrap_err();
        assert!(error.place == 1 && error.to_string().contains(cure), "{pattern}: {error}");
    }
    assert_eq!(Redactor::new().with(&vec!["ok".to_owned(); 33]).unwrap_err().place, MOST_USER_PATTERNS);
}

/// A text in which the secret stands as it does in logs; there are twelve.
fn surrounded(secret: &str, form: usize) -> String {
    let json = serde_json::to_string(&format!("at {secret} then")).unwrap();
    match form {
        0 => format!("{{\"level\":\"error\",\"msg\":{json},\"n\":1}}"),
        1 => format!("{{\"log\":{}}}", serde_json::to_string(&format!("{{\"msg\":{json}}}")).unwrap()),
        2 => format!("level=error msg={json} n=1"),
        3 => format!("at: '{secret}' then"),
        4 => format!("Exception in thread \"main\" E: {secret}\n\tat a.b.C.d(C.java:1)"),
        5 => format!("2026-11-21T10:00:00Z [at] ({secret}) then"),
        6 => format!("X-Debug: {secret}\r\nHost: api\r\n"),
        7 => format!("at\n{secret}\nthen"),
        8 => format!("Error {{ kind: Other, error: {json} }}"),
        9 => format!("at, {secret}, then"),
        10 => format!("`{secret}` then"),
        _ => format!("at <{secret}> then"),
    }
}

#[test]
fn planted_secrets_survive_in_no_surrounding() {
    let mut survived = Vec::new();
    for (_, secret, hidden) in PLANTED {
        for form in 0..12 {
            let text = surrounded(secret, form);
            let kept = redact(&text);
            // What JSON escapes is looked for as it is escaped.
            let escaped = serde_json::to_string(hidden).unwrap();
            if kept.contains(hidden) || kept.contains(escaped.trim_matches('"')) {
                survived.push(format!("{text}\n -> {kept}"));
            }
            assert_eq!(redact(&kept), kept);
        }
    }
    assert!(survived.is_empty(), "{} of them:\n{}", survived.len(), survived.join("\n"));
}

#[test]
fn with_a_key_every_mark_stays_what_it_is() {
    for (_, secret, _) in PLANTED {
        let once = KEYED.redact(&format!("one\n{secret}\nthree"), 10_000);
        assert_eq!(KEYED.redact(once.as_str(), 10_000), once, "{secret}");
    }
}
