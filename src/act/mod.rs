//! The only code that writes to a workload.
//!
//! Role: carries out a planned undo, hands its field ownership back, deletes pods that are in its way, suspends who would
//! revert it. Inputs: a decided request, a fence. Outputs: what became of it. Must never import: other rooms than `domain` and `api`.

mod error;
mod server;
mod suspend;
mod undo;

#[cfg(test)]
mod tests;

pub use error::ActError;
pub use suspend::{Found, Resumed, Suspended};
pub use undo::{Act, GiveBack, PodDeletion, Preview, UndoOutcome};

/// Whether this process may still write. Asked immediately before every write.
pub type Fence<'a> = &'a (dyn Fn() -> bool + Send + Sync);
