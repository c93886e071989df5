//! What is written down: status, events, samples, what models were asked.
//!
//! Role: tell people and the next leader what happened. Inputs: what the domain decided. Outputs: API writes, best effort
//! where nothing depends on them. Must never import: `act`, `observe`, `advise`, `controller`, `console`.

pub mod events;
pub mod owner;
pub mod prompts;
pub mod recordings;
pub mod ring;
pub mod samples;
pub mod status;
pub mod templates;
