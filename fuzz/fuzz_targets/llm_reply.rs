//! Any bytes as the reply of a model: nothing panics, what is read keeps its bounds and says what stands in it.
#![no_main]

use deployment_guard::domain::advice::prompt::Known;
use deployment_guard::domain::advice::reply::{MOST_FIX, MOST_REASONING, read};
use libfuzzer_sys::fuzz_target;

const HEAD: &str = r#"{"decision":"CONTINUE","confidence":50,"failure_class":"none","evidence":["S1"],"reasoning":"#;

fuzz_target!(|data: &[u8]| {
    let known = ["S1", "F1"].map(|id| Known { id: id.to_owned(), abnormal: true });
    let text = String::from_utf8_lossy(data);
    // By itself, and as the rest of a reply that has decided already: then it may say nothing else.
    for (text, decided) in [(text.to_string(), false), (format!("{HEAD}{text}"), true)] {
        let Ok(opinion) = read(&text, &known) else { continue };
        assert!(opinion.reasoning.chars().count() <= MOST_REASONING);
        assert!(opinion.suggested_fix.chars().count() <= MOST_FIX);
        assert!(opinion.confidence.value() <= 100);
        assert!(opinion.evidence.iter().all(|id| known.iter().any(|known| known.id == *id)));
        assert!(text.to_ascii_uppercase().contains(opinion.verdict.as_str()));
        assert!(!decided || opinion.verdict.as_str() == "CONTINUE");
    }
});
