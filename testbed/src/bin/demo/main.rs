//! The demo: a good release, a bad one, and a good one while Prometheus is down, on a real cluster with real traffic.
//! Run by `make demo`. Every sentence it prints about the guard is read from the cluster, none is made up.

mod guard;
mod kube;
mod story;

use std::process::ExitCode;

use crate::story::Story;

fn main() -> ExitCode {
    let mut story = Story::default();
    let result = story.tell();
    if let Err(error) = &result {
        println!("\nThe demo broke off: {error:#}");
        story.show_trouble();
    }
    let failed = story.failed() + u32::from(result.is_err());
    println!("\ndemo: {} passed, {failed} failed", story.passed());
    ExitCode::from(u8::from(failed > 0))
}
