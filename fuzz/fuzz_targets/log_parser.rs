//! Any bytes in any pieces: nothing panics, nothing is counted twice, nothing grows beyond its bounds.
#![no_main]

use std::sync::LazyLock;

use deployment_guard::domain::logs::{From, Patterns, Reader, Tally, Volume};
use deployment_guard::domain::redact::Redactor;
use libfuzzer_sys::fuzz_target;

static PATTERNS: LazyLock<Patterns> = LazyLock::new(Patterns::built_in);
static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::new);

fn read(bytes: &[u8], size: usize, timestamps: bool) -> (Tally, u64, Volume) {
    let (mut tally, mut entries) = (Tally::default(), 0);
    let mut reader = Reader::new(timestamps);
    let mut sink = |entry| {
        entries += 1;
        tally.add(From { container: "app", pod: "pod" }, &entry, &PATTERNS, &REDACTOR);
    };
    for chunk in bytes.chunks(size) {
        reader.feed(chunk, &mut sink);
    }
    let volume = reader.end(true, &mut sink);
    (tally, entries, volume)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let (size, timestamps) = (usize::from(first >> 1) + 1, first & 1 == 1);
    let (whole, entries, volume) = read(bytes, bytes.len().max(1), timestamps);
    let (pieces, again, same) = read(bytes, size, timestamps);
    assert_eq!((whole.counts(), entries, volume), (pieces.counts(), again, same));
    assert!(entries <= volume.lines);
    assert_eq!(volume.bytes, bytes.len() as u64);
    for (key, counted) in whole.counts() {
        assert!(key.signature.chars().count() <= 256 + 8);
        assert!(counted.example.chars().count() <= 400);
    }
});
