//! How fast logs are read, and in how much memory.
//!
//! Role: the whole way of a log inside the operator, from chunks of bytes to counted signatures, on one core. Inputs: a
//! log made here, with the shares of formats, errors and traces that the table names. Outputs: a table and
//! `target/bench/logs.json`.
#![allow(missing_docs)]

use std::alloc::System;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::logs::{From, Patterns, Reader, Tally, UserPattern};
use deployment_guard::domain::outcome::FailureClass;
use deployment_guard::domain::redact::Redactor;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MB: usize = 1_000_000;
/// As the client hands them out.
const CHUNK: usize = 16 * 1024;
/// The goal, on one core.
const WANTED: f64 = 200_000.0;

/// Ordinary news in five formats.
const NEWS: &[&str] = &[
    "2026-11-21T10:00:00.123Z  INFO 1 --- [shop] [nio-8080-exec-7] c.e.shop.OrderController : order 4711 placed in 12 ms",
    r#"{"level":"info","ts":1795255200.123,"caller":"http/server.go:88","msg":"request served","path":"/orders","took":"12ms"}"#,
    "time=2026-11-21T10:00:00.123Z level=INFO msg=\"request served\" path=/orders/4711 took=12ms timeout=30s",
    r#"10.0.0.7 - - [21/Nov/2026:10:00:00 +0000] "GET /orders/4711?page=2 HTTP/1.1" 200 512 "-" "curl/8.5.0""#,
    "[2026-11-21 10:00:00,123] worker 7 finished batch 4711 of 5000 without complaint",
];
const ERRORS: &[&str] = &[
    "2026-11-21T10:00:01.123Z ERROR 1 --- [shop] [nio-8080-exec-7] c.e.shop.Stock : order 4711: Connect to stock:8081 failed: Connection refused",
    r#"{"level":"error","ts":1795255201.123,"caller":"db/pg.go:40","msg":"load order 4711","error":"pq: canceling statement due to statement timeout"}"#,
    "time=2026-11-21T10:00:01.123Z level=ERROR msg=\"checksum of part 4711 differs\" part=4711",
    "2026-11-21 10:00:01.123 [exec-3] ERROR c.e.shop.Orders - order 4711 failed\njava.lang.IllegalStateException: stock is negative\n\tat com.example.shop.Stock.take(Stock.java:42)\n\tat com.example.shop.Orders.place(Orders.java:17)",
];

struct Row {
    name: &'static str,
    megabytes: usize,
    lines_per_second: f64,
    megabytes_per_second: f64,
    heap: isize,
    resident: u64,
    signatures: usize,
}

fn main() -> Result<()> {
    let (plain, hundred) = (Patterns::built_in(), hundred()?);
    let cases = [
        ("1 % errors, built-in patterns", 10, &plain, 100),
        ("1 % errors, and 100 of the user's", 10, &hundred, 100),
        ("1 % errors, and 100 of the user's", 100, &hundred, 100),
        ("errors only, and 100 of the user's", 10, &hundred, 1),
        ("errors only, and 100 of the user's", 100, &hundred, 1),
    ];
    println!(
        "| log | MB | lines/s and core | MB/s | heap grown, KiB | peak RSS so far, MiB | signatures |\n|---|---|---|---|---|---|---|"
    );
    let mut rows = Vec::new();
    for (name, megabytes, patterns, every) in cases {
        let row = measure(name, megabytes, patterns, &block(every));
        println!(
            "| {} | {} | {:.0} | {:.0} | {} | {:.1} | {} |",
            row.name,
            row.megabytes,
            row.lines_per_second,
            row.megabytes_per_second,
            row.heap / 1024,
            to_f64(row.resident) / 1024.0,
            row.signatures
        );
        rows.push(row);
    }
    let slowest = rows.iter().take(3).map(|row| row.lines_per_second).fold(f64::INFINITY, f64::min);
    println!(
        "\nGoal: {WANTED:.0} lines/s and core with 1 % errors: {}",
        if slowest >= WANTED { "met" } else { "missed" }
    );
    write(&rows)
}

/// A hundred expressions of the kind people write.
fn hundred() -> Result<Patterns> {
    let one = |n: usize| UserPattern {
        regex: format!(r"(?i)ledger{n} (?:refused|rejected) \w+ after \d{{1,3}} tries|E{n:04}-\d+"),
        issue: format!("ledger {n}"),
        suggested_fix: String::new(),
        class: FailureClass::Other,
    };
    Ok(Patterns::new(&(0..100).map(one).collect::<Vec<_>>())?)
}

/// About a megabyte of log; one entry in `every` is an error.
fn block(every: usize) -> Vec<u8> {
    let mut block = String::new();
    let mut n = 0;
    while block.len() < MB {
        let lines = if n % every == 0 { ERRORS } else { NEWS };
        let text = lines[(n / every + n) % lines.len()].replace("4711", &(n % 9973).to_string());
        for line in text.lines() {
            block.push_str("2026-11-21T10:00:00.123456789Z ");
            block.push_str(line);
            block.push('\n');
        }
        n += 1;
    }
    block.into_bytes()
}

fn measure(name: &'static str, megabytes: usize, patterns: &Patterns, block: &[u8]) -> Row {
    let redactor = Redactor::new();
    let mut tally = Tally::default();
    let mut reader = Reader::new(true);
    let region = Region::new(ALLOCATOR);
    let started = Instant::now();
    let mut sink = |entry| tally.add(From { container: "app", pod: "api-1" }, &entry, patterns, &redactor);
    let mut bytes = 0;
    while bytes < megabytes * MB {
        for chunk in block.chunks(CHUNK) {
            reader.feed(chunk, &mut sink);
        }
        bytes += block.len();
    }
    let volume = reader.end(true, &mut sink);
    let seconds = started.elapsed().as_secs_f64();
    let change = region.change();
    Row {
        name,
        megabytes,
        lines_per_second: to_f64(volume.lines) / seconds,
        megabytes_per_second: to_f64(volume.bytes) / 1e6 / seconds,
        heap: isize::try_from(change.bytes_allocated).unwrap_or(isize::MAX)
            - isize::try_from(change.bytes_deallocated).unwrap_or(isize::MAX),
        resident: resident(),
        signatures: tally.counts().len(),
    }
}

/// The peak of resident memory in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn write(rows: &[Row]) -> Result<()> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deployment-guard"));
    let folder = program.parent().and_then(|folder| folder.parent()).context("no target folder")?.join("bench");
    fs::create_dir_all(&folder)?;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({"log": row.name, "megabytes": row.megabytes, "linesPerSecond": row.lines_per_second,
                "megabytesPerSecond": row.megabytes_per_second, "heapGrownBytes": row.heap,
                "peakResidentKiB": row.resident, "signatures": row.signatures})
        })
        .collect();
    fs::write(folder.join("logs.json"), serde_json::to_string_pretty(&json!({"rows": rows}))?)?;
    Ok(())
}
