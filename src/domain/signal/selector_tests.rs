use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> String {
    Selector::parse(text).unwrap_err().to_string()
}

#[test]
fn selectors_are_rendered_canonically() {
    for (text, canonical) in [
        ("up", "up"),
        (" up { } ", "up"),
        ("http_requests_total{code=~'5..', a!=\"x\",}", r#"http_requests_total{a!="x",code=~"5.."}"#),
        (r#"{__name__="up",job!~`a\b`}"#, r#"up{job!~"a\\b"}"#),
        (r#"{"http.server.duration", job="x"}"#, r#"{"http.server.duration",job="x"}"#),
        (r#"x{"a.b"="c\"d"}"#, r#"x{"a.b"="c\"d"}"#),
        (r#"{__name__=~"a|b"}"#, r#"{__name__=~"a|b"}"#),
        (r#"x{a="\x41\101\u00e9"}"#, "x{a=\"AAé\"}"),
    ] {
        assert_eq!(Selector::parse(text).unwrap().to_string(), canonical, "{text}");
    }
}

#[test]
fn everything_but_a_selector_is_refused_with_what_is_allowed() {
    for text in
        ["rate(x[5m])", "x[5m]", "x offset 5m", "x @ 3", "x + y", "x or y", "sum", "5", "x{a=\"b\"} or up", "-x"]
    {
        assert!(refused(text).contains("plain selector"), "{text}: {}", refused(text));
    }
    for text in [
        "",
        "{}",
        "{a=\"b\"}",
        "x{",
        "x{a}",
        "x{a=b}",
        "x{a=\"b}",
        "x{a=\"\\q\"}",
        "x{\"y\"}",
        "x{__name__=\"y\"}",
        "{__name__=~\".*\"}",
        "x{a=\"b\" c=\"d\"}",
        "x{,}",
        "x{a=\"\\xff\"}",
        "x{a=\"\\ud800\"}",
    ] {
        assert!(Selector::parse(text).is_err(), "{text}");
    }
    assert!(Selector::parse(&"a".repeat(5000)).is_err());
}

#[test]
fn tenancy_matchers_are_ours() {
    for text in ["x{namespace=\"other\"}", "x{pod=~\".*\"}", "x{\"namespace\"!=\"a\"}"] {
        assert!(refused(text).contains("the operator adds namespace and pod itself"), "{text}");
    }
}

fn selectors() -> impl Strategy<Value = Selector> {
    let operator =
        prop::sample::select(vec![Operator::Equal, Operator::NotEqual, Operator::Matches, Operator::NotMatches]);
    let label = prop_oneof!["[a-z_][a-z0-9_]{0,6}", "[a-z]{1,3}\\.[a-zé\"\\\\]{1,3}"];
    let matcher = (label, operator, any::<String>()).prop_map(|(l, o, v)| Matcher::new(&l, o, &v));
    let name = prop_oneof!["[a-zA-Z_:][a-zA-Z0-9_:]{0,10}", "\\PC{1,8}", "[\"{}\\\\,=]{1,4}"];
    (name, prop::collection::vec(matcher, 0..4))
        .prop_filter("tenancy", |(_, ms)| {
            ms.iter().all(|m| !["namespace", "pod", "__name__"].contains(&m.label.as_str()))
        })
        .prop_map(|(name, matchers)| Selector::of(&name, matchers))
}

proptest! {
    #[test]
    fn parsing_undoes_rendering(selector in selectors()) {
        prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), nasty in "[a{}=~!\"'`\\\\,x0-9 ]{0,30}") {
        let _ = Selector::parse(&text);
        if let Ok(selector) = Selector::parse(&nasty) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    #[test]
    fn an_injected_value_never_ends_its_string(value in any::<String>()) {
        let text = Matcher::new("a", Operator::Equal, &value).to_string();
        let inner = text.strip_prefix("a=\"").and_then(|rest| rest.strip_suffix('"')).unwrap();
        let mut escaped = false;
        for c in inner.chars() {
            prop_assert!(escaped || c != '"');
            prop_assert!(c != '\n');
            escaped = !escaped && c == '\\';
        }
        prop_assert!(!escaped);
    }
}
