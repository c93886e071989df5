//! What an endpoint does not understand, learned from its refusals.
//!
//! Role: newer models refuse `max_tokens` and any temperature, older servers know nothing else; ask as they like it.
//! Inputs: what a server said. Outputs: how to ask. Must never import: other rooms.

use std::sync::atomic::{AtomicBool, Ordering};

/// How an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// `max_completion_tokens` instead of `max_tokens`.
    pub completion_tokens: bool,
    /// No `temperature`.
    pub any_temperature: bool,
}

/// What was learned about one endpoint; only ever more.
#[derive(Debug, Default)]
pub(super) struct Dialect {
    completion_tokens: AtomicBool,
    any_temperature: AtomicBool,
}

impl Dialect {
    pub(super) fn manner(&self) -> Manner {
        Manner {
            completion_tokens: self.completion_tokens.load(Ordering::Relaxed),
            any_temperature: self.any_temperature.load(Ordering::Relaxed),
        }
    }

    /// Whether asking again is worth it: the refusal of what was asked in `manner` taught something.
    pub(super) fn learn(&self, manner: Manner, said: &str) -> bool {
        let said = said.to_lowercase();
        if !manner.completion_tokens && said.contains("max_completion_tokens") {
            self.completion_tokens.store(true, Ordering::Relaxed);
            return true;
        }
        let refused = ["support", "deprecated", "not allowed", "not permitted"].iter().any(|word| said.contains(word));
        if !manner.any_temperature && said.contains("temperature") && refused {
            self.any_temperature.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_given_up_once_and_nothing_else_is_learned() {
        let dialect = Dialect::default();
        let tokens = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        let temperature = "Unsupported value: 'temperature' does not support 0 with this model.";
        assert!(!dialect.learn(dialect.manner(), "'response_format' is not supported"));
        let before = dialect.manner();
        assert!(dialect.learn(before, tokens));
        assert!(!dialect.learn(dialect.manner(), tokens));
        assert!(dialect.learn(dialect.manner(), temperature));
        assert!(!dialect.learn(dialect.manner(), temperature));
        // A second question that was under way when the first one learned: it is asked again too.
        assert!(dialect.learn(before, tokens));
    }
}
