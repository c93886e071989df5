use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::finding::{Novelty, Source};
use crate::domain::outcome::FailureClass;
use crate::domain::redact::Redactor;

const LONG: usize = 10 * 1024 * 1024;

pub(super) fn read(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut reader = Reader::new(false);
    let mut sink = |entry| entries.push(entry);
    reader.feed(text.as_bytes(), &mut sink);
    reader.end(true, &mut sink);
    entries
}

fn one(text: &str) -> Entry {
    let mut entries = read(text);
    assert_eq!(entries.len(), 1, "{entries:#?}");
    entries.remove(0)
}

fn tally(text: &str) -> Tally {
    let (patterns, redactor) = (Patterns::built_in(), Redactor::new());
    let mut tally = Tally::default();
    for entry in read(text) {
        tally.add(From { container: "app", pod: "p" }, &entry, &patterns, &redactor);
    }
    tally.read("app", Volume { lines: 1, ..Volume::default() });
    tally
}

fn issue(text: &str) -> Option<String> {
    Patterns::built_in().find(&one(text)).map(|found| found.issue.to_owned())
}

#[test]
fn every_built_in_expression_compiles() {
    for row in table::ROWS {
        for expression in row.any.iter().chain(row.unless) {
            patterns::set([expression]).unwrap_or_else(|error| panic!("{}: {error}", row.issue));
        }
        assert!(row.issue.len() < 40 && !row.suggested_fix.is_empty(), "{}", row.issue);
        patterns::set([row.any.join("|")]).unwrap();
    }
    assert_eq!(table::ROWS.iter().map(|row| row.issue).collect::<BTreeSet<_>>().len(), table::ROWS.len());
    patterns::set(table::ROWS.iter().map(|row| row.any.join("|"))).unwrap();
    assert_eq!(issue("ERROR dial tcp 10.0.0.1:5432: connect: connection refused").unwrap(), "connection refused");
}

#[test]
fn lines_arrive_in_any_pieces() {
    let text = b"2026-11-21T10:00:00.123456789Z first\n2026-11-21T10:00:01Z \x1b[31msecond\x1b[0m\r\nno time \xff\n2026-11-21T10:00:02Z half";
    let all = |size: usize, complete: bool| {
        let mut lines = lines::Lines::new(true);
        let mut got = Vec::new();
        let mut sink = |line: lines::Line<'_>| got.push((line.at, line.text.into_owned()));
        for chunk in text.chunks(size) {
            lines.feed(chunk, &mut sink);
        }
        let volume = lines.end(complete, &mut sink);
        (got, volume)
    };
    let (whole, volume) = all(text.len(), true);
    assert_eq!(
        whole.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
        ["first", "second", "no time \u{fffd}", "half"]
    );
    assert_eq!(whole.iter().filter(|(at, _)| at.is_some()).count(), 3);
    assert_eq!((volume.lines, volume.half), (4, 0));
    for size in 1..40 {
        assert_eq!(all(size, true), all(text.len(), true), "{size}");
    }
    let (cut, volume) = all(7, false);
    assert_eq!((cut.len(), volume.lines, volume.half), (3, 3, 1));
}

#[test]
fn a_line_of_ten_megabytes_is_shortened_and_the_next_one_is_read() {
    let mut lines = lines::Lines::new(false);
    let mut lengths = Vec::new();
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..LONG / chunk.len() {
        lines.feed(&chunk, &mut |line| lengths.push(line.text.len()));
    }
    lines.feed(b"\nERROR after\n", &mut |line| lengths.push(line.text.len()));
    let volume = lines.end(true, &mut |_| {});
    assert_eq!(lengths, [lines::MOST_BYTES_OF_LINE, 11]);
    assert_eq!((volume.lines, volume.shortened), (2, 1));
}

/// Reads what the kubelet hands out from `since` on, as the next read would.
fn go_on(log: &str, since: Option<Mark>) -> (Vec<String>, Option<Mark>) {
    let mut reader = Reader::since(since);
    let mut texts = Vec::new();
    let mut sink = |entry: Entry| texts.push(entry.text);
    let from = since.map(|mark| mark.at.as_second());
    for line in log.lines() {
        let at: jiff::Timestamp = line.split(' ').next().unwrap().parse().unwrap();
        if from.is_none_or(|from| at.as_second() >= from) {
            reader.feed(format!("{line}\n").as_bytes(), &mut sink);
        }
    }
    reader.end(true, &mut sink);
    (texts, reader.until())
}

#[test]
fn a_clock_that_runs_backwards_or_ahead_loses_no_line_and_counts_none_twice() {
    let log = [
        "2026-11-21T10:00:01Z ERROR a",
        "2026-11-21T10:00:05Z ERROR b",
        "2026-11-21T11:30:00Z ERROR of the future",
        "2026-11-21T10:00:03.1Z ERROR c",
        "2026-11-21T10:00:03.1Z ERROR d",
        "2026-11-21T10:00:04Z ERROR e",
        "2026-11-21T10:00:06Z ERROR f",
        "2026-11-21T12:00:00Z ERROR g",
    ];
    let all: Vec<_> = log.iter().map(|line| line.split_once("ERROR ").unwrap().1).collect();
    for end in 1..log.len() {
        // Where the clock stepped back between two reads the kubelet itself leaves lines out until it has caught up.
        if end == 2 || end == 3 {
            continue;
        }
        let (mut texts, mark) = go_on(&log[..end].join("\n"), None);
        let (more, mark) = go_on(&log.join("\n"), mark);
        texts.extend(more);
        assert_eq!(texts, all, "{end}");
        assert_eq!(go_on(&log.join("\n"), mark).0, Vec::<String>::new(), "{end}");
    }
}

#[test]
fn lines_behind_a_mark_that_was_rotated_away_are_told_by_their_time() {
    let (_, mark) = go_on("2026-11-21T10:00:01Z ERROR a\n2026-11-21T10:00:02Z ERROR b", None);
    let rotated = "2026-11-21T10:00:02Z ERROR another\n2026-11-21T10:00:03Z ERROR c\n2026-11-21T10:00:02.5Z ERROR d";
    assert_eq!(go_on(rotated, mark).0, ["c", "d"]);
}

#[test]
fn a_trace_that_is_cut_between_two_reads_is_counted_once() {
    let java = [
        "ERROR order 17 failed",
        "java.lang.IllegalStateException: stock is negative",
        "\tat com.example.Stock.take(Stock.java:42)",
        "\tat com.example.Orders.place(Orders.java:17)",
        "Caused by: java.io.IOException: closed",
        "\tat com.example.Store.get(Store.java:4)",
        "\t... 2 more",
        "ERROR another",
    ];
    let python = [
        "Traceback (most recent call last):",
        "  File \"/app/main.py\", line 10, in <module>",
        "    main()",
        "ZeroDivisionError: division by zero",
        "ERROR another",
    ];
    let go = ["panic: boom", "", "goroutine 1 [running]:", "main.main()", "\t/src/main.go:10 +0x1d", "ERROR another"];
    for trace in [&java[..], &python, &go] {
        let lines: Vec<_> =
            trace.iter().enumerate().map(|(at, line)| format!("2026-11-21T10:00:00.{at:03}Z {line}")).collect();
        let whole = go_on(&lines.join("\n"), None).0;
        assert_eq!((whole.len(), whole[1].as_str()), (2, "another"));
        for end in 1..lines.len() {
            let (first, mark) = go_on(&lines[..end].join("\n"), None);
            let (second, _) = go_on(&lines.join("\n"), mark);
            assert_eq!(
                (first.len() + second.len(), second.last().unwrap().as_str()),
                (2, "another"),
                "{end}: {second:?}"
            );
        }
    }
}

#[test]
fn what_differs_from_one_time_to_the_next_is_masked() {
    for (text, signature) in [
        ("order 4711 of user-0815 took 1500ms", "order <n> of user-<n> took <duration>"),
        ("id 550e8400-e29b-41d4-a716-446655440000 gone", "id <uuid> gone"),
        ("dial tcp 10.0.0.1:5432: refused", "dial tcp <ip>:<n>: refused"),
        ("peer [fe80::1]:80", "peer [<ip>]:<n>"),
        ("read tcp 10.0.0.1:1->10.0.0.2:6379: i/o timeout", "read tcp <ip>:<n>-><ip>:<n>: i/o timeout"),
        ("Get \"https://10.0.0.1:443/v1/pods/17\": EOF", "Get \"https://<ip>:<n>/v<n>/pods/<n>\": EOF"),
        ("2026-11-21T10:00:00.123Z at 10:00:01,5", "<time> at <time>"),
        ("mail to jo.doe+x@example.org failed", "mail to <email> failed"),
        ("GET /orders/17/items?page=2&token=abc done", "GET /orders/<n>/items?<query> done"),
        ("pod shop-7f9c6d5b8f-x2v9k on node3", "pod shop-<hex>-<id> on node<n>"),
        ("object 'ab12' at 0xdeadbeef, 1m30.5s, v1.2.3", "object '<id>' at <hex>, <duration>, v<n>.<n>"),
        ("  many\t spaces  ", "many spaces"),
    ] {
        assert_eq!(mask::mask(text), signature);
    }
}

#[test]
fn an_old_signature_weighs_nothing_and_a_new_one_counts_even_when_rare() {
    let noise = "ERROR cannot send mail 17\n".repeat(100);
    let old = tally(&noise);
    let new = tally(&format!("{noise}ERROR dial tcp db:5432: connect: connection refused\n"));
    let same = Exposure { new_pod_seconds: 60.0, old_pod_seconds: 60.0 };
    let found = findings(&new, Some(&old), same);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].novelty, found[0].new, found[0].old), (Novelty::New, 1, Some(0)));
    assert_eq!((found[0].issue.as_str(), found[0].class), ("connection refused", FailureClass::DependencyUnavailable));
    assert_eq!(found[0].service.as_deref(), Some("db"));
    assert_eq!(found[0].source, Source::Logs { container: "app".into() });
    assert_eq!((found[1].novelty, found[1].old), (Novelty::Known, Some(100)));
    // As often, but in a tenth of the time.
    let short = Exposure { new_pod_seconds: 6.0, old_pod_seconds: 60.0 };
    assert_eq!(findings(&new, Some(&old), short)[1].novelty, Novelty::More);
    assert!(findings(&new, None, same).iter().all(|finding| finding.novelty == Novelty::Unknown));
    let mut unread = Tally::default();
    unread.could_not_read("forbidden");
    assert!(findings(&new, Some(&unread), same).iter().all(|f| f.novelty == Novelty::Unknown && f.old.is_none()));
}

#[test]
fn nothing_is_kept_that_was_not_redacted() {
    let tally =
        tally("ERROR login failed for jo@example.org password=hunter2 from 10.1.2.3 sk-proj-AbCdEfGh1234IjKlMnOp\n");
    let (key, counted) = tally.counts().iter().next().unwrap();
    for text in [&key.signature, &counted.example] {
        for secret in ["hunter", "jo@", "10.1.2.3", "AbCdEf"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn noise_is_bounded_and_leaves_room_for_what_a_pattern_names() {
    let words = |n: usize| n.to_string().bytes().map(|digit| char::from(digit + 49)).collect::<String>();
    let mut text: String = (0..1000).flat_map(|n| ["ERROR strange ".to_owned(), words(n), "\n".to_owned()]).collect();
    text.push_str("ERROR dial tcp db:5432: connect: connection refused\n");
    let tally = tally(&text);
    assert_eq!(tally.counts().len(), 193);
    assert_eq!(tally.overflow(), 808);
    assert!(tally.counts().values().any(|counted| counted.issue.is_some()));
    let mut merged = tally.clone();
    merged.merge(tally);
    assert_eq!(merged.counts().values().map(|counted| counted.count).sum::<u64>(), 2 * 193);
}

#[test]
fn user_patterns_come_first_and_are_refused_with_the_reason() {
    let pattern = |regex: &str| UserPattern {
        regex: regex.into(),
        issue: "mine".into(),
        suggested_fix: String::new(),
        class: FailureClass::Other,
    };
    let patterns = Patterns::new(&[pattern("(?i)ledger .* refused")]).unwrap();
    assert_eq!(patterns.find(&one("ERROR Ledger says: connection refused")).unwrap().issue, "mine");
    assert_eq!(patterns.find(&one("INFO ledger was refused")), None);
    let refused = |regex: &str| Patterns::new(&[pattern("a"), pattern(regex)]).unwrap_err();
    assert_eq!(refused(r"\w{1000}\w{1000}"), PatternError::TooLarge { index: 1 });
    assert_eq!(refused(&"x".repeat(513)), PatternError::TooLong { index: 1, chars: 513 });
    assert_eq!(refused(".*"), PatternError::MatchesAll { index: 1 });
    assert!(refused("(?=x)").to_string().contains("look-around"), "{}", refused("(?=x)"));
    assert!(matches!(Patterns::new(&vec![pattern("a"); 101]), Err(PatternError::TooMany(101))));
}

proptest! {
    #[test]
    fn masking_twice_changes_nothing(text in "[ -~äé\t]{0,400}") {
        let once = mask::mask(&text);
        prop_assert_eq!(mask::mask(&once), once.clone());
        prop_assert!(once.chars().count() <= mask::MOST_CHARS);
        prop_assert!(!once.bytes().any(|b| b.is_ascii_digit()), "{}", once);
    }

    #[test]
    fn masking_log_like_text_twice_changes_nothing(
        parts in prop::collection::vec("(GET|/a/[0-9]{1,4}|\\?[a-z]=[0-9]|[0-9]{1,4}(ms|s|m|h|d)?|[0-9a-f]{6,12}|[a-z]{1,7}[0-9]{0,4}|'[a-z0-9]{1,5}'?|[0-9.:]{3,15}|[a-z0-9@.]{3,12}|[\\[\\](){}<>\"=,;:!?.]) ?", 0..90)
    ) {
        let once = mask::mask(&parts.concat());
        prop_assert_eq!(mask::mask(&once), once);
    }

    #[test]
    fn any_bytes_in_any_pieces_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..200, timestamps: bool,
    ) {
        let mut reader = Reader::new(timestamps);
        let mut entries = 0u64;
        for chunk in bytes.chunks(size) {
            reader.feed(chunk, &mut |_| entries += 1);
        }
        let volume = reader.end(true, &mut |_| entries += 1);
        prop_assert_eq!(volume.bytes, u64::try_from(bytes.len()).unwrap());
        prop_assert!(entries <= volume.lines);
    }
}
