//! What is written down: status, events, samples.
//!
//! Role: tell people and the next leader what happened. Inputs: what the domain decided. Outputs: API writes, best effort
//! where nothing depends on them. Must never import: `act`, `observe`, `advise`, `controller`, `console`.

pub mod events;
pub mod owner;
pub mod recordings;
pub mod samples;
pub mod status;
pub mod templates;
