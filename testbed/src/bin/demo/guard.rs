//! What a guard's status says, read as a person would.

use serde_json::Value;

/// A guard as read from the cluster.
pub struct Guard(pub Value);

impl Guard {
    /// A condition's status, reason and message.
    pub fn condition(&self, type_: &str) -> (&str, &str, &str) {
        let conditions = self.0["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|condition| condition["type"] == type_);
        let text = |field: &str| found.and_then(|condition| condition[field].as_str()).unwrap_or("");
        (text("status"), text("reason"), text("message"))
    }

    /// The current revision.
    pub fn revision(&self) -> &str {
        self.0["status"]["current"]["revision"].as_str().unwrap_or("")
    }

    /// Where it stands.
    pub fn state(&self) -> &str {
        self.0["status"]["current"]["state"].as_str().unwrap_or("")
    }

    /// The last decision.
    pub fn decision(&self) -> &Value {
        &self.0["status"]["lastDecision"]
    }

    /// A field of the last decision as text.
    pub fn decided(&self, field: &str) -> &str {
        self.decision()[field].as_str().unwrap_or("")
    }

    /// One line about the state now, for the live narration.
    pub fn line(&self) -> String {
        let (healthy, reason, message) = self.condition("Healthy");
        format!("Healthy={healthy} ({reason}): {message}")
    }

    /// The decision as a person reads it.
    pub fn explain(&self) -> String {
        let decision = self.decision();
        let text = |field: &str| decision[field].as_str().unwrap_or("-").to_owned();
        let number = |field: &str| decision[field].as_i64().map_or("none".into(), |value| value.to_string());
        let mut lines = vec![
            format!("{} by {} at {}", text("decision"), text("decider"), text("time")),
            format!(
                "health score {} of 100, confidence {} %{}",
                number("healthScore"),
                number("confidence"),
                decision["oneIn"]
                    .as_str()
                    .map_or(String::new(), |chance| format!(", chance of this without a regression at most {chance}"))
            ),
            format!("why: {}", text("reasoning")),
        ];
        for part in decision["contributions"].as_array().into_iter().flatten() {
            let hundredths = part["pointsHundredths"].as_i64().unwrap_or_default();
            lines.push(format!(
                "  {:8} {:>10}   -{}.{:02} points",
                part["term"].as_str().unwrap_or_default(),
                part["value"].as_str().unwrap_or_default(),
                hundredths / 100,
                hundredths % 100
            ));
        }
        if let Some(class) = decision["failureClass"].as_str() {
            lines.push(format!("kind of failure: {class}"));
        }
        for finding in decision["findings"].as_array().into_iter().flatten() {
            let said = |field: &str| finding[field].as_str().unwrap_or_default();
            let old = finding["old"].as_i64().map_or("unknown".to_owned(), |count| count.to_string());
            let (new, novelty) = (finding["new"].as_i64().unwrap_or_default(), said("novelty"));
            lines.push(format!(
                "found in {}: {} ({new} times, old revision {old}; {novelty})",
                said("source"),
                said("issue")
            ));
            lines.extend(said("context").lines().map(|line| format!("    {line}")));
            if !said("suggestedFix").is_empty() {
                lines.push(format!("  usually helps: {}", said("suggestedFix")));
            }
        }
        let advice = &decision["advice"];
        if let Some(by) = advice["by"].as_str() {
            let said = |field: &str| advice[field].as_str().unwrap_or_default();
            let cited: Vec<&str> =
                advice["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let (sure, clamp) = (&advice["confidence"], said("clamp"));
            lines.push(format!("{by} proposed {} ({sure} %), citing {}", said("proposed"), cited.join(", ")));
            lines.push(format!("    {}", said("reasoning")));
            if !clamp.is_empty() {
                lines.push(format!("    clamped: {clamp}"));
            }
        }
        for attempt in decision["attempts"].as_array().into_iter().flatten() {
            let said = |field: &str| attempt[field].as_str().unwrap_or_default();
            lines.push(format!("asked {}: {}, {} ms", said("decider"), said("outcome"), attempt["milliseconds"]));
        }
        lines.push(format!("judged revision {}, to go back to {}", text("fromRevision"), text("toRevision")));
        lines.push(format!("done: {} {}", text("action"), decision["actionReason"].as_str().unwrap_or("")));
        for (name, value) in decision["durations"].as_object().into_iter().flatten() {
            lines.push(format!("  {name}: {}", value.as_str().unwrap_or_default()));
        }
        format!("    {}\n", lines.join("\n    "))
    }
}
