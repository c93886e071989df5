//! Language models behind HTTP: the formats as the providers publish them, and every way to fail, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod check;
mod faults;
mod formats;
mod llama;
mod rig;
mod server;
