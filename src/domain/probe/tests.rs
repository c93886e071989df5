use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::response::{BODY_LIMIT, End, Reader, Wrong};
use super::version::{self, Wanted};
use super::*;
use crate::domain::finding::Novelty;
use crate::domain::redact::Redactor;
use crate::domain::rollout::Side;

fn expect() -> Expect {
    Expect { status: StatusRanges::parse("200-399").unwrap(), body_contains: None, version: None }
}

fn probe() -> Probe {
    Probe {
        name: "health".into(),
        at: At::Pods,
        port: NonZeroU16::new(8080).unwrap(),
        question: Question::Http(Http {
            scheme: Scheme::Http,
            path: "/healthz".into(),
            server_name: None,
            verify: false,
            expect: expect(),
        }),
        timeout: Duration::from_secs(2),
    }
}

// Addresses.

#[test]
fn addresses_that_lead_elsewhere_are_refused() {
    for (address, why) in [
        ("127.0.0.1", "loopback"),
        ("127.255.0.3", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.100.100.200", "metadata"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "metadata"),
        ("::127.0.0.1", "loopback"),
        ("::ffff:0:169.254.169.254", "metadata"),
        ("64:ff9b::169.254.169.254", "metadata"),
        ("2002:a9fe:a9fe::1", "metadata"),
        ("2001::1", "Teredo"),
    ] {
        let refused = address::refuse(address.parse().unwrap());
        assert!(refused.is_some_and(|said| said.contains(why)), "{address}: {refused:?}");
    }
}

#[test]
fn addresses_of_pods_may_be_asked() {
    for address in
        ["10.42.0.17", "172.16.3.4", "192.168.1.9", "100.64.3.2", "203.0.113.5", "fd12:3456::9", "2001:db8::5"]
    {
        assert_eq!(address::refuse(address.parse().unwrap()), None, "{address}");
    }
}

proptest! {
    #[test]
    fn no_spelling_of_a_refused_address_is_let_through(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from(bits);
        let refused = address::refuse(IpAddr::V4(v4));
        let [a, b, c, d] = v4.octets();
        let low = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        let spelled = [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, low[0], low[1]),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, low[0], low[1]),
            Ipv6Addr::new(0x2002, low[0], low[1], 0, 0, 0, 0, 1),
        ];
        for v6 in spelled {
            prop_assert_eq!(address::refuse(IpAddr::V6(v6)), refused, "{}", v6);
        }
        let special = v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
            || v4.is_unspecified();
        prop_assert!(!special || refused.is_some());
    }

    #[test]
    fn special_networks_are_refused_as_a_whole(bits in any::<u128>(), net in prop::sample::select(vec![
        (0xfe80_u128 << 112, 10), (0xff00_u128 << 112, 8), (0x2001_u128 << 112, 32), (0xffff_7f00_0000_u128, 104),
        (0xffff_a9fe_0000_u128, 112),
    ])) {
        let (prefix, length) = net;
        let mask = u128::MAX << (128 - length);
        let address = Ipv6Addr::from((prefix & mask) | (bits & !mask));
        prop_assert!(address::refuse(IpAddr::V6(address)).is_some(), "{}", address);
    }
}

// Versions.

#[test]
fn a_version_is_found_as_a_word_of_its_own() {
    for (text, wanted, found) in [
        ("{\"version\":\"1.4.2\"}", "1.4.2", true),
        ("version v1.4.2.", "1.4.2", true),
        ("v1.4.2", "v1.4.2", true),
        ("1.4.2", "v1.4.2", true),
        ("11.4.2", "1.4.2", false),
        ("1.4.20", "1.4.2", false),
        ("1.4.2.1", "1.4.2", false),
        ("0.1.4.2", "1.4.2", false),
        ("1.4.2-rc1", "1.4.2", false),
        ("rev1.4.2", "1.4.2", false),
        ("api-1.4.2", "api-1.4.2", true),
        ("", "1.4.2", false),
        ("vote", "vote", true),
    ] {
        assert_eq!(version::stands_in(text.as_bytes(), wanted), found, "{wanted} in {text}");
    }
    assert!(version::is(" v1.4.2 ", "1.4.2") && !version::is("1.4.20", "1.4.2") && !version::is("vote", "ote"));
}

#[test]
fn the_tag_of_an_image_is_what_follows_the_last_colon_of_its_last_part() {
    for (image, tag) in [
        ("api:v1", Some("v1")),
        ("registry.example:5000/shop/api:1.4.2", Some("1.4.2")),
        ("registry.example:5000/shop/api", None),
        ("shop/api@sha256:00ff", None),
        ("shop/api:1.4.2@sha256:00ff", Some("1.4.2")),
        ("", None),
    ] {
        assert_eq!(version::tag_of(image), tag, "{image}");
    }
}

#[test]
fn a_fixed_version_is_asked_of_the_new_revision_only() {
    let fixed = ExpectVersion::parse("1.4.2", None).unwrap();
    assert_eq!(fixed.wanted(Side::Old, Some("1.4.1")), Wanted::Any);
    assert_eq!(fixed.wanted(Side::New, Some("1.4.1")), Wanted::Version("1.4.2".into()));
    let own = ExpectVersion::parse("shop {imageTag}", None).unwrap();
    assert_eq!(own.wanted(Side::Old, Some("1.4.1")), Wanted::Version("shop 1.4.1".into()));
    assert_eq!(own.wanted(Side::New, None), Wanted::Any);
}

// Answers.

fn read(
    expect: &Expect,
    wanted: Wanted,
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
    end: &End,
) -> Result<(), Wrong> {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    let mut reader = Reader::new(expect, wanted, status, headers);
    for byte in body.as_bytes() {
        if !reader.wants_more() {
            break;
        }
        reader.push(&[*byte]);
    }
    reader.verdict(end)
}

fn sentence(verdict: Result<(), Wrong>) -> String {
    match verdict {
        Err(Wrong::Answer(issue, what)) => format!("{}: {what}", issue.as_str()),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_unexpected_status_is_said_with_the_beginning_of_the_body() {
    let said = sentence(read(&expect(), Wanted::Any, 500, &[], "db\ndown", &End::Complete));
    assert_eq!(said, "unexpected status: answered 500 instead of 200-399: db down");
    let said = sentence(read(&expect(), Wanted::Any, 500, &[], "", &End::Deadline));
    assert_eq!(said, "unexpected status: answered 500 instead of 200-399");
}

#[test]
fn a_body_nobody_asked_about_is_not_read() {
    let expect = expect();
    assert!(!Reader::new(&expect, Wanted::Any, 200, []).wants_more());
    assert!(Reader::new(&expect, Wanted::Any, 404, []).wants_more());
}

#[test]
fn a_text_is_found_across_pieces_and_ends_the_reading() {
    let expect = Expect { body_contains: Some("all good".into()), ..expect() };
    assert_eq!(read(&expect, Wanted::Any, 200, &[], "yes, all good", &End::Deadline), Ok(()));
    assert_eq!(read(&expect, Wanted::Any, 200, &[], "yes, all", &End::Deadline), Err(Wrong::Late));
    let said = sentence(read(&expect, Wanted::Any, 200, &[], "no", &End::Complete));
    assert_eq!(said, "unexpected body: answered 200 without \"all good\"");
    let said = sentence(read(&expect, Wanted::Any, 200, &[], "no", &End::Broken("reset".into())));
    assert_eq!(said, "connection lost: answered 200, but broke off before \"all good\": reset");
    let mut reader = Reader::new(&expect, Wanted::Any, 200, []);
    reader.push(&vec![b'x'; BODY_LIMIT * 2]);
    reader.push(b"all good");
    assert!(!reader.wants_more());
    assert!(sentence(reader.verdict(&End::Deadline)).contains("in its first 64 KiB"));
}

#[test]
fn a_version_is_looked_for_in_its_header_or_in_the_body() {
    let by_header =
        Expect { version: Some(ExpectVersion::parse("{imageTag}", Some("X-Version")).unwrap()), ..expect() };
    let wanted = || Wanted::Version("1.4.2".into());
    assert_eq!(read(&by_header, wanted(), 200, &[("x-version", "v1.4.2")], "", &End::Complete), Ok(()));
    let said = sentence(read(&by_header, wanted(), 200, &[("x-version", "1.4.1")], "", &End::Complete));
    assert_eq!(said, "unexpected version: says x-version: 1.4.1 instead of version 1.4.2");
    let said = sentence(read(&by_header, wanted(), 200, &[], "1.4.2", &End::Complete));
    assert_eq!(said, "unexpected version: has no header x-version, which should say 1.4.2");
    let by_body = Expect { version: Some(ExpectVersion::parse("{imageTag}", None).unwrap()), ..expect() };
    assert_eq!(read(&by_body, wanted(), 200, &[], "api 1.4.2\n", &End::Complete), Ok(()));
    let said = sentence(read(&by_body, wanted(), 200, &[], "api 1.4.20\n", &End::Complete));
    assert_eq!(said, "unexpected version: answered 200 without the version 1.4.2");
    assert_eq!(read(&by_body, Wanted::Any, 200, &[], "api 1.4.20\n", &End::Complete), Ok(()));
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_verdict(
        body in prop::collection::vec(prop::sample::select(b"ab".to_vec()), 0..60), cut in 0_usize..60, text in "[ab]{1,5}",
    ) {
        let expect = Expect { body_contains: Some(text.clone()), ..expect() };
        let mut reader = Reader::new(&expect, Wanted::Any, 200, []);
        let cut = cut.min(body.len());
        reader.push(&body[..cut]);
        reader.push(&body[cut..]);
        let holds = body.windows(text.len()).any(|part| part == text.as_bytes());
        prop_assert_eq!(reader.verdict(&End::Complete).is_ok(), holds);
    }

    #[test]
    fn statuses_read_back_as_they_are_shown(text in "[1-5][0-9]{2}(,[1-5][0-9]{2}){0,3}") {
        let ranges = StatusRanges::parse(&text).unwrap();
        prop_assert_eq!(StatusRanges::parse(&ranges.to_string()), Ok(ranges));
    }
}

// gRPC.

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

#[test]
fn a_grpc_request_is_one_framed_string() {
    assert_eq!(grpc::request(""), [0, 0, 0, 0, 0]);
    assert_eq!(grpc::request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
    let long = grpc::request(&"x".repeat(200));
    assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
}

#[test]
fn a_grpc_answer_is_read_by_its_status_and_its_message() {
    let ok = Some(b"0".as_slice());
    assert_eq!(grpc::judge(ok, None, &frame(&[8, 1])), Ok(()));
    assert_eq!(grpc::judge(ok, None, &frame(&[0x12, 1, b'x', 8, 1])), Ok(()));
    for (status, body, issue, words) in [
        (ok, frame(&[8, 2]), Issue::NotServing, "NOT_SERVING"),
        (ok, frame(&[]), Issue::NotServing, "UNKNOWN"),
        (ok, frame(&[8, 3]), Issue::NotServing, "SERVICE_UNKNOWN"),
        (ok, frame(&[8, 9]), Issue::NotServing, "status 9"),
        (ok, vec![], Issue::Protocol, "no message"),
        (ok, vec![1, 0, 0, 0, 0], Issue::Protocol, "no message"),
        (ok, vec![0, 0, 0, 0, 9, 8], Issue::Protocol, "no message"),
        (ok, frame(&[8, 0xff]), Issue::Protocol, "no message"),
        (Some(b"12".as_slice()), vec![], Issue::NoHealthService, "UNIMPLEMENTED"),
        (Some(b"5".as_slice()), vec![], Issue::NotServing, "does not know the service"),
        (Some(b"14".as_slice()), vec![], Issue::NotServing, "gRPC status 14"),
        (None, frame(&[8, 1]), Issue::Protocol, "without a gRPC status"),
    ] {
        let (said, what) = grpc::judge(status, None, &body).unwrap_err();
        assert!(said == issue && what.contains(words), "{body:?}: {said:?} {what}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_grpc_answer_serve_by_accident(body in prop::collection::vec(any::<u8>(), 0..40)) {
        if grpc::judge(Some(b"0"), None, &body).is_ok() {
            prop_assert!(body.len() >= 7 && body[0] == 0);
        }
    }
}

// New against old.

const MS: Duration = Duration::from_millis(1);

fn good() -> ProbeOutcome {
    ProbeOutcome::Ok { latency: MS * 12 }
}

fn bad() -> ProbeOutcome {
    ProbeOutcome::Failed { issue: Issue::Status, what: "answered 500 instead of 200-399".into(), latency: MS }
}

fn late() -> ProbeOutcome {
    ProbeOutcome::TimedOut { stage: Stage::Answer, after: MS * 2000 }
}

fn refused() -> ProbeOutcome {
    ProbeOutcome::Refused { why: "hostNetwork".into() }
}

fn pods(name: &str, outcomes: &[&[ProbeOutcome]]) -> Vec<Asked> {
    let pod = |(place, outcomes): (usize, &&[ProbeOutcome])| Asked {
        pod: format!("{name}-{place}"),
        outcomes: outcomes.to_vec(),
    };
    outcomes.iter().enumerate().map(pod).collect()
}

fn found(new: &[Asked], old: &[Asked]) -> Option<crate::domain::finding::Finding> {
    static REDACTOR: std::sync::LazyLock<Redactor> = std::sync::LazyLock::new(Redactor::new);
    compare(&probe(), new, old, &REDACTOR)
}

#[test]
fn what_fails_on_new_pods_only_is_new() {
    let new = pods("new", &[&[bad(), bad()], &[good(), good(), good()]]);
    let finding = found(&new, &pods("old", &[&[good(), good()]])).unwrap();
    assert_eq!((finding.novelty, finding.new, finding.old), (Novelty::New, 2, Some(0)));
    assert_eq!(finding.issue, "unexpected status");
    assert_eq!(
        finding.context,
        "GET http port 8080 /healthz: 1 of 2 new pods fail: answered 500 instead of 200-399; 1 of 1 old pods pass"
    );
}

#[test]
fn what_fails_on_both_revisions_says_so_and_blames_nobody() {
    let finding =
        found(&pods("new", &[&[bad(), bad()]]), &pods("old", &[&[late(), late()], &[good(), good()]])).unwrap();
    assert_eq!(finding.novelty, Novelty::Known);
    assert!(
        finding.context.ends_with("it fails on 1 of 2 old pods too, on both revisions, and does not blame the new one"),
        "{}",
        finding.context
    );
}

#[test]
fn without_old_pods_nobody_knows() {
    for old in [vec![], pods("old", &[&[good()]]), pods("old", &[&[refused(), refused()]])] {
        let finding = found(&pods("new", &[&[late(), late()]]), &old).unwrap();
        assert_eq!((finding.novelty, finding.old), (Novelty::Unknown, None));
        assert!(finding.context.contains("no answer within 2000 ms"), "{}", finding.context);
        assert_eq!(finding.class, crate::domain::outcome::FailureClass::Performance);
    }
}

#[test]
fn a_failure_counts_when_it_is_two_of_the_last_three() {
    let old = pods("old", &[&[good(), good()]]);
    for (outcomes, fails) in [
        (vec![bad()], false),
        (vec![bad(), good()], false),
        (vec![bad(), good(), bad()], true),
        (vec![bad(), bad(), good()], true),
        (vec![bad(), bad(), good(), good()], false),
        (vec![bad(), refused(), late()], true),
        (vec![refused(), refused(), refused()], false),
        (vec![], false),
    ] {
        assert_eq!(found(&pods("new", &[&outcomes]), &old).is_some(), fails, "{outcomes:?}");
    }
}

#[test]
fn text_of_a_pod_is_redacted_before_it_becomes_a_finding() {
    let leaking = ProbeOutcome::Failed {
        issue: Issue::Status,
        what: "answered 500 instead of 200-399: password=hunter2xyz".into(),
        latency: MS,
    };
    let finding = found(&pods("new", &[&[leaking.clone(), leaking]]), &[]).unwrap();
    assert!(!finding.context.contains("hunter2xyz"), "{}", finding.context);
}

#[test]
fn latency_is_shown() {
    let new = pods("new", &[&[good(), good()], &[bad(), bad()]]);
    assert_eq!(
        describe(&probe(), &new, &[]),
        "GET http port 8080 /healthz: 1 of 2 new pods pass, median 12 ms; no old pods asked"
    );
}

proptest! {
    #[test]
    fn the_order_of_pods_changes_nothing(
        kinds in prop::collection::vec(prop::collection::vec(0_u8..4, 0..5), 0..6), turn in 0_usize..6,
    ) {
        let outcome = |kind: &u8| match kind { 0 => good(), 1 => bad(), 2 => late(), _ => refused() };
        let outcomes: Vec<Vec<_>> = kinds.iter().map(|pod| pod.iter().map(outcome).collect()).collect();
        let slices: Vec<&[ProbeOutcome]> = outcomes.iter().map(Vec::as_slice).collect();
        let new = pods("new", &slices);
        let mut turned = new.clone();
        turned.rotate_left(turn.min(new.len()));
        let old = pods("old", &[&[good(), good()]]);
        prop_assert_eq!(found(&new, &old), found(&turned, &old));
        // Novelty is New only if some old pod passed and none failed.
        if let Some(finding) = found(&new, &new) {
            prop_assert_eq!(finding.novelty, Novelty::Known);
        }
    }
}
