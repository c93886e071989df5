//! The demo: a good release, a bad one, and a good one while Prometheus is down, on a real cluster with real traffic.
//! Run by `make demo`. Every sentence it prints about the guard is read from the cluster, none is made up.

mod guard;
mod manifests;
mod story;

use std::process::ExitCode;

use crate::story::Story;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut story = match Story::new() {
        Ok(story) => story,
        Err(error) => {
            eprintln!("demo: {error:#}; run it with make demo");
            return ExitCode::from(2);
        }
    };
    let result = story.tell().await;
    if let Err(error) = &result {
        println!("\nThe demo broke off: {error:#}");
        story.show_trouble().await;
    }
    let failed = story.failed() + u32::from(result.is_err());
    println!("\ndemo: {} passed, {failed} failed", story.passed());
    ExitCode::from(u8::from(failed > 0))
}
