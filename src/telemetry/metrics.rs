//! What the operator counts about itself.
//!
//! Role: the metric families of the API page. Inputs: events as enums; never names of objects, except in the bounded
//! score gauge. Outputs: the Prometheus exposition. Must never import: other rooms than `domain` and `api`.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// One pair of labels; values come from enums.
type Labels = Vec<(&'static str, &'static str)>;
/// The same, where one value is a name that an administrator wrote into a class.
type NamedLabels = Vec<(&'static str, String)>;

/// Guards up to this many get a health score gauge each; above it there are none, to bound the series.
const SCORE_GAUGES: usize = 500;

/// Every metric of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<Labels, Counter>,
    rollbacks: Family<Labels, Counter>,
    detect_to_rollback: Histogram,
    decision_seconds: Histogram,
    reconcile_seconds: Family<Labels, Histogram>,
    reconcile_errors: Family<Labels, Counter>,
    queries: Family<Labels, Counter>,
    query_seconds: Histogram,
    llm_requests: Family<NamedLabels, Counter>,
    llm_seconds: Histogram,
    llm_tokens: Family<NamedLabels, Counter>,
    redactions: Family<Labels, Counter>,
    notifications: Family<Labels, Counter>,
    leader: Gauge,
    guards: Family<Labels, Gauge>,
    last_evaluation: Gauge<f64, AtomicU64>,
    health_score: Family<Vec<(&'static str, String)>, Gauge<i64, AtomicI64>>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.5, 12))
}

fn long_seconds() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 13))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("deployment_guard"),
            decisions: Family::default(),
            rollbacks: Family::default(),
            detect_to_rollback: long_seconds(),
            decision_seconds: long_seconds(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            reconcile_errors: Family::default(),
            queries: Family::default(),
            query_seconds: seconds(),
            llm_requests: Family::default(),
            llm_seconds: seconds(),
            llm_tokens: Family::default(),
            redactions: Family::default(),
            notifications: Family::default(),
            leader: Gauge::default(),
            guards: Family::default(),
            last_evaluation: Gauge::default(),
            health_score: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("decisions", "Decisions by verdict and decider", self.decisions.clone());
        r.register("rollbacks", "Undos by how they ended", self.rollbacks.clone());
        r.register(
            "detect_to_rollback_seconds",
            "From the first sight of a revision to the accepted undo",
            self.detect_to_rollback.clone(),
        );
        r.register(
            "decision_seconds",
            "From the first sight of a revision to its decision",
            self.decision_seconds.clone(),
        );
        r.register("reconcile_seconds", "Duration of one reconcile", self.reconcile_seconds.clone());
        r.register("reconcile_errors", "Failed reconciles by category", self.reconcile_errors.clone());
        r.register("prometheus_queries", "Queries by outcome", self.queries.clone());
        r.register("prometheus_query_seconds", "Duration of one query", self.query_seconds.clone());
        r.register("llm_requests", "Requests to language models by provider and outcome", self.llm_requests.clone());
        r.register("llm_request_seconds", "Duration of one request to a language model", self.llm_seconds.clone());
        r.register("llm_tokens", "Tokens by provider and direction", self.llm_tokens.clone());
        r.register("redactions", "Pieces of outside text that were blacked out", self.redactions.clone());
        r.register("events", "Events written by outcome", self.notifications.clone());
        r.register("leader", "1 on the replica that acts", self.leader.clone());
        r.register("guards", "Guards by the state of their current revision", self.guards.clone());
        r.register(
            "last_evaluation_timestamp_seconds",
            "When a guard was last evaluated",
            self.last_evaluation.clone(),
        );
        r.register("health_score", "Health score of a guard's current revision", self.health_score.clone());
    }

    /// The exposition in Prometheus' text format.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a decision; `since` is the age of the rollout.
    pub fn decided(&self, decision: &'static str, decider: &'static str, since: Duration) {
        self.decisions.get_or_create(&vec![("decision", decision), ("decider", decider)]).inc();
        self.decision_seconds.observe(since.as_secs_f64());
    }

    /// Counts the end of an undo.
    pub fn rolled_back(&self, result: &'static str) {
        self.rollbacks.get_or_create(&vec![("result", result)]).inc();
    }

    /// Notes how long it took from first sight to the accepted patch.
    pub fn undo_sent(&self, since: Duration) {
        self.detect_to_rollback.observe(since.as_secs_f64());
    }

    /// Notes one reconcile.
    pub fn reconciled(&self, outcome: &'static str, took: Duration) {
        self.reconcile_seconds.get_or_create(&vec![("outcome", outcome)]).observe(took.as_secs_f64());
    }

    /// Counts a failed reconcile.
    pub fn reconcile_failed(&self, category: &'static str) {
        self.reconcile_errors.get_or_create(&vec![("category", category)]).inc();
    }

    /// Notes one query.
    pub fn queried(&self, outcome: &'static str, took: Duration) {
        self.queries.get_or_create(&vec![("outcome", outcome)]).inc();
        self.query_seconds.observe(took.as_secs_f64());
    }

    /// Notes one request to a language model. Providers are named on the class, at most 16 a class.
    pub fn llm_called(&self, provider: &str, outcome: &'static str, took: Duration, tokens: (u64, u64)) {
        let labels = |key, value: &str| vec![("provider", provider.to_owned()), (key, value.to_owned())];
        self.llm_requests.get_or_create(&labels("outcome", outcome)).inc();
        self.llm_seconds.observe(took.as_secs_f64());
        self.llm_tokens.get_or_create(&labels("direction", "input")).inc_by(tokens.0);
        self.llm_tokens.get_or_create(&labels("direction", "output")).inc_by(tokens.1);
    }

    /// Counts what was blacked out.
    pub fn redacted(&self, kind: &'static str, pieces: u64) {
        self.redactions.get_or_create(&vec![("kind", kind)]).inc_by(pieces);
    }

    /// Counts a written event.
    pub fn event(&self, outcome: &'static str) {
        self.notifications.get_or_create(&vec![("outcome", outcome)]).inc();
    }

    /// Says whether this replica acts.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Moves a guard from one state to another.
    pub fn guard_state(&self, from: Option<&'static str>, to: Option<&'static str>) {
        if from == to {
            return;
        }
        if let Some(state) = from {
            self.guards.get_or_create(&vec![("state", state)]).dec();
        }
        if let Some(state) = to {
            self.guards.get_or_create(&vec![("state", state)]).inc();
        }
    }

    /// Notes an evaluation and the score it gave, if any.
    pub fn evaluated(&self, at: f64, namespace: &str, name: &str, score: Option<u8>, guards: usize) {
        self.last_evaluation.set(at);
        let labels = vec![("namespace", namespace.to_owned()), ("name", name.to_owned())];
        match score {
            _ if guards > SCORE_GAUGES => {
                self.health_score.remove(&labels);
            }
            Some(score) => {
                self.health_score.get_or_create(&labels).set(i64::from(score));
            }
            // Between two scores the last one stands.
            None => {}
        }
    }

    /// Forgets a deleted guard.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.health_score.remove(&vec![("namespace", namespace.to_owned()), ("name", name.to_owned())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_carry_the_names_of_the_api_page() {
        let metrics = Metrics::default();
        metrics.decided("ROLLBACK", "seed-formula", Duration::from_secs(9));
        metrics.rolled_back("succeeded");
        metrics.queried("ok", Duration::from_millis(3));
        metrics.reconcile_failed("api");
        metrics.reconciled("ok", Duration::from_millis(1));
        metrics.redacted("ip", 2);
        metrics.guard_state(None, Some("Judging"));
        metrics.evaluated(5.0, "shop", "api", Some(70), 1);
        let text = metrics.encode().unwrap();
        for family in [
            "deployment_guard_decisions_total{decision=\"ROLLBACK\",decider=\"seed-formula\"} 1",
            "deployment_guard_rollbacks_total{result=\"succeeded\"} 1",
            "deployment_guard_detect_to_rollback_seconds_count 0",
            "deployment_guard_decision_seconds_count 1",
            "deployment_guard_reconcile_seconds_count{outcome=\"ok\"} 1",
            "deployment_guard_reconcile_errors_total{category=\"api\"} 1",
            "deployment_guard_prometheus_queries_total{outcome=\"ok\"} 1",
            "deployment_guard_prometheus_query_seconds_count 1",
            "deployment_guard_redactions_total{kind=\"ip\"} 2",
            "deployment_guard_leader 0",
            "deployment_guard_guards{state=\"Judging\"} 1",
            "deployment_guard_last_evaluation_timestamp_seconds 5",
            "deployment_guard_health_score{namespace=\"shop\",name=\"api\"} 70",
        ] {
            assert!(text.contains(family), "{family} is missing in\n{text}");
        }
    }

    #[test]
    fn a_guard_is_in_one_state_at_a_time() {
        let metrics = Metrics::default();
        metrics.guard_state(None, Some("Judging"));
        metrics.guard_state(Some("Judging"), Some("Passed"));
        let text = metrics.encode().unwrap();
        assert!(text.contains("deployment_guard_guards{state=\"Judging\"} 0"));
        assert!(text.contains("deployment_guard_guards{state=\"Passed\"} 1"));
    }
}
