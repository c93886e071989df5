use proptest::prelude::*;

use super::*;

fn known() -> Vec<Known> {
    ["S1", "S2", "F1"].iter().map(|id| Known { id: (*id).to_owned(), abnormal: true }).collect()
}

const PLAIN: &str = r#"{"decision":"ROLLBACK","confidence":85,"failure_class":"database_timeout","reasoning":"errors 5.2 % against 1.0 %","evidence":["S1","F1"],"suggested_fix":"raise the pool"}"#;

fn plain() -> Opinion {
    Opinion {
        verdict: Verdict::Rollback,
        confidence: Confidence::percent(85.0),
        class: FailureClass::DatabaseTimeout,
        reasoning: "errors 5.2 % against 1.0 %".to_owned(),
        evidence: vec!["S1".to_owned(), "F1".to_owned()],
        suggested_fix: "raise the pool".to_owned(),
    }
}

fn with(field: &str, value: &str) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(PLAIN).unwrap();
    object.insert(field.to_owned(), serde_json::from_str(value).unwrap());
    serde_json::to_string(&object).unwrap()
}

#[test]
fn however_it_is_wrapped_it_means_the_same() {
    let single = PLAIN.replace('"', "'");
    for text in [
        PLAIN.to_owned(),
        format!("```json\n{PLAIN}\n```"),
        format!("```\n{PLAIN}\n```\nLet me know if you need more."),
        format!("<think>maybe {{\"decision\":\"CONTINUE\"}}? no.</think>\n{PLAIN}"),
        format!("<thinking>\n…\n</thinking>{PLAIN}"),
        format!("errors are high, so\n</think>\n\n{PLAIN}"),
        format!("Here is my answer about {{name}}:\n\n{PLAIN}\n\nHope {{this}} helps {{}}."),
        format!("{PLAIN}\n\n{PLAIN}"),
        PLAIN.replace("\"raise the pool\"}", "\"raise the pool\",\n}").replace("\"F1\"]", "\"F1\",]"),
        single.clone(),
        single.replace("85", "85.0").replace("'}", "',}"),
        PLAIN.replace("ROLLBACK", " rollback ").replace("\"S1\"", "\"s1\"").replace("85", "\"85\""),
        PLAIN.replace("errors 5.2 %", "errors\n5.2 %"),
        format!("The schema is {{\"type\":\"object\",\"properties\":{{\"decision\":{{}}}}}}.\n{PLAIN}"),
        format!("[{PLAIN}]"),
    ] {
        assert_eq!(read(&text, &known()), Ok(plain()), "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_no_reply() {
    let other = PLAIN.replace("ROLLBACK", "CONTINUE");
    let single = other.replace('"', "'");
    for text in [
        format!("{PLAIN}\n{other}"),
        format!("First I thought {other}, but now {PLAIN}"),
        PLAIN.replace("\"confidence\"", "\"decision\":\"CONTINUE\",\"confidence\""),
        format!("{{\"answer\":{PLAIN}}}"),
        format!("{{\"name\":\"reply\",\"arguments\":{PLAIN}}}"),
        format!("{{\"broken\": \n{PLAIN}"),
        format!("<think>{PLAIN}"),
        format!("<think>a</think>{other}</think>{PLAIN}"),
        // A log line that the model repeats, and that ends its thoughts for it.
        format!("My answer: {}", PLAIN.replace("errors 5.2 %", &format!("</think>{single}"))),
        "{'decision':'ROLLBACK','confidence':85,'failure_class':'other','reasoning':'it's bad','evidence':[]}"
            .to_owned(),
        "{'decision':'ROLLBACK','confidence':85,'failure_class':'other','reasoning':'a', 'b','evidence':[]}".to_owned(),
        "{decision: ROLLBACK, confidence: 85}".to_owned(),
        "ROLLBACK".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
    ] {
        assert_eq!(read(&text, &known()), Err(Failure::Unreadable), "{text}");
    }
}

#[test]
fn what_means_nothing_is_refused() {
    for text in [
        with("decision", "\"PROMOTE\""),
        with("decision", "\"ROLLBACK or CONTINUE\""),
        with("decision", "true"),
        with("confidence", "101"),
        with("confidence", "-1"),
        with("confidence", "0.85"),
        with("confidence", "85.5"),
        PLAIN.replace("85", "1.0"),
        with("confidence", "\"85 %\""),
        with("confidence", "\"\""),
        with("confidence", "null"),
        with("confidence", "[85]"),
        with("failure_class", "\"sabotage\""),
        with("failure_class", "7"),
        with("reasoning", "\" \""),
        with("reasoning", "null"),
        with("evidence", "[\"S9\"]"),
        with("evidence", "[\"S1\", 2]"),
        with("evidence", "\"S1\""),
        with("evidence", "null"),
        with("suggested_fix", "[]"),
        PLAIN.replace("\"evidence\":[\"S1\",\"F1\"],", ""),
        PLAIN.replace("\"confidence\":85,", ""),
    ] {
        assert_eq!(read(&text, &known()), Err(Failure::Invalid), "{text}");
    }
}

#[test]
fn numbers_that_can_only_mean_percent_are_read() {
    for (text, percent) in [("0", 0), ("1", 1), ("100", 100), ("85.0", 85), ("1e2", 100), ("0.0", 0), ("\"7\"", 7)] {
        let reply = read(&PLAIN.replace("85", text), &known());
        assert_eq!(reply.map(|reply| reply.confidence.value()), Ok(percent), "{text}");
    }
}

#[test]
fn long_words_are_cut_and_hidden_characters_left_out() {
    let reply = read(&with("reasoning", &format!("\"{}\"", "ä ".repeat(5000))), &known()).unwrap();
    assert_eq!(reply.reasoning.chars().count(), MOST_REASONING);
    assert!(reply.reasoning.ends_with('…'));
    let reply = read(&with("suggested_fix", "\"a\\u0000b\\u202ec\\n\\nd\""), &known()).unwrap();
    assert_eq!(reply.suggested_fix, "a b c d");
    let opinion = Opinion { reasoning: "password=hunter2xyz".to_owned(), ..plain() }.redacted(&Redactor::new());
    assert_eq!(opinion.reasoning, "password=[redacted:credential]");
}

#[test]
fn nothing_and_too_much_have_names_of_their_own() {
    assert_eq!(read(" \n", &known()), Err(Failure::Empty));
    assert_eq!(read(&format!("{PLAIN}{}", " ".repeat(MOST_BYTES)), &known()), Err(Failure::TooLarge));
}

#[test]
fn a_reply_that_was_cut_off_anywhere_is_no_opinion() {
    for wrapped in [PLAIN.to_owned(), format!("```json\n{PLAIN}"), PLAIN.replace('"', "'")] {
        for end in 0..wrapped.len() {
            assert!(read(&wrapped[..end], &known()).is_err(), "{}", &wrapped[..end]);
        }
    }
}

#[test]
fn ten_megabytes_that_open_and_never_close_are_read_in_one_pass() {
    const SIZE: usize = 10 << 20;
    for unit in ["{", "{\"", "{\"a\":", "[", "'", "\\", "</think>", "<think>", "{ ", "{\"a\":{\"b\":1},", "{\"a\":1}"] {
        let text = unit.repeat(SIZE / unit.len());
        assert!(read(&text, &known()).is_err());
        // The same through what the limit of size keeps out otherwise.
        assert!(without_thoughts(&text).and_then(only_object).is_err());
        assert!(only_object(&text).is_err());
    }
}

/// Ways to wrap a reply that do not change it.
fn wrapped(json: &str, how: usize) -> String {
    match how {
        0 => json.to_owned(),
        1 => format!("```json\n{json}\n```"),
        2 => format!("<think>hm {{\"decision\": 1}}</think>{json}"),
        3 => format!("So: {json} That is all."),
        4 => format!("\n\n{json}\n{json}"),
        _ => json.replace("],", ",],").replace("[,]", "[]"),
    }
}

prop_compose! {
    fn opinions()(
        verdict in prop::sample::select(Verdict::ALL), percent in 0_u8..=100, class in prop::sample::select(FailureClass::ALL),
        reasoning in "[a-zA-Z0-9äß{}'\"\\\\ :,]{0,80}", evidence in prop::sample::subsequence(vec!["S1", "S2", "F1"], 0..=3),
        fix in "[a-z{}\"' ]{0,40}",
    ) -> Opinion {
        Opinion {
            verdict, confidence: Confidence::percent(f64::from(percent)), class,
            reasoning: prose(&format!("because {reasoning}"), MOST_REASONING),
            evidence: evidence.into_iter().map(str::to_owned).collect(), suggested_fix: prose(&fix, MOST_FIX),
        }
    }
}

fn json(opinion: &Opinion) -> String {
    serde_json::json!({
        "decision": opinion.verdict.as_str(), "confidence": opinion.confidence.value(),
        "failure_class": opinion.class.as_str(), "reasoning": opinion.reasoning, "evidence": opinion.evidence,
        "suggested_fix": opinion.suggested_fix,
    })
    .to_string()
}

proptest! {
    #[test]
    fn an_opinion_comes_back_as_it_was_however_it_is_wrapped(opinion in opinions(), how in 0_usize..6) {
        // A comma before a bracket may stand in the words, too.
        prop_assume!(how != 5 || !opinion.reasoning.contains(']'));
        prop_assert_eq!(read(&wrapped(&json(&opinion), how), &known()), Ok(opinion));
    }

    #[test]
    fn in_single_quotes_it_means_the_same_or_nothing(opinion in opinions()) {
        let text = json(&opinion).replace('"', "'");
        if let Ok(read) = read(&text, &known()) {
            prop_assert_eq!((read.verdict, read.confidence, read.class, read.evidence),
                (opinion.verdict, opinion.confidence, opinion.class, opinion.evidence));
        }
    }

    #[test]
    fn two_opinions_are_none(one in opinions(), two in opinions(), between in "[a-z \n]{0,20}") {
        prop_assume!(one != two);
        let text = format!("{}{between}{}", json(&one), json(&two));
        prop_assert_eq!(read(&text, &known()), Err(Failure::Unreadable));
    }

    #[test]
    fn any_text_is_read_without_panic_and_is_an_opinion_only_if_it_says_one(text in "(?s).{0,400}") {
        if let Ok(opinion) = read(&text, &known()) {
            prop_assert!(text.to_ascii_uppercase().contains(opinion.verdict.as_str()));
        }
    }

    #[test]
    fn a_damaged_reply_never_says_the_opposite(opinion in opinions(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = json(&opinion).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = read(&String::from_utf8_lossy(&bytes), &known()) {
            prop_assert_eq!(read.verdict, opinion.verdict);
        }
    }
}
