//! Whatever a pod answers to a probe: reading it never panics, never holds more than its limit, and the verdict does not
//! depend on how the bytes were cut.
#![no_main]

use deployment_guard::domain::probe::response::{BODY_LIMIT, End, Reader};
use deployment_guard::domain::probe::version::{self, Wanted};
use deployment_guard::domain::probe::{Expect, ExpectVersion, StatusRanges, grpc};
use libfuzzer_sys::fuzz_target;

/// Takes the next line of the input.
fn line<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, rest) = data.split_at(end);
    *data = rest.get(1..).unwrap_or_default();
    line
}

fn reader<'a>(expect: &'a Expect, version: &str, status: u16, header: &[u8]) -> Reader<'a> {
    Reader::new(expect, Wanted::Version(version.to_owned()), status, [("X-Version", header)])
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let [mode, statuses, contains, wanted, header] = std::array::from_fn(|_| line(&mut data));
    let flags = mode.first().copied().unwrap_or_default();
    let expect = Expect {
        status: StatusRanges::parse(&text(statuses)).or_else(|_| StatusRanges::parse("200-399")).unwrap(),
        body_contains: (flags & 1 == 1).then(|| text(contains)),
        version: (flags & 2 == 2)
            .then(|| ExpectVersion::parse("{imageTag}", (flags & 4 == 4).then_some("x-version")).unwrap()),
    };
    let status = u16::from(mode.get(1).copied().unwrap_or(200)) * 3;
    let end = match flags & 24 {
        0 => End::Complete,
        8 => End::Deadline,
        _ => End::Broken("reset".to_owned()),
    };
    let wanted = text(wanted);

    let mut whole = reader(&expect, &wanted, status, header);
    whole.push(data);
    let mut pieces = reader(&expect, &wanted, status, header);
    let size = usize::from(mode.get(2).copied().unwrap_or(1)).max(1);
    for piece in data.chunks(size) {
        pieces.push(piece);
    }
    assert_eq!(whole.verdict(&end), pieces.verdict(&end));
    assert!(data.len() < BODY_LIMIT || expect.status.contains(status) || !whole.wants_more());

    // Reading stops early only where the rest changes nothing about good or bad.
    let mut early = reader(&expect, &wanted, status, header);
    for piece in data.chunks(size) {
        if !early.wants_more() {
            break;
        }
        early.push(piece);
    }
    assert_eq!(early.verdict(&end).is_ok(), whole.verdict(&end).is_ok());

    let _ = version::stands_in(data, &wanted);
    let _ = version::tag_of(&wanted);
    let said = grpc::judge(Some(header), Some(contains), data);
    assert!(said.is_err() || header == b"0");
});
