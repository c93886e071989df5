use super::*;

#[test]
fn a_config_map_is_named_after_its_guard_within_the_limit() {
    assert_eq!(config_map_name("api"), "api-samples");
    let long = "a".repeat(253);
    let other = format!("{}b", "a".repeat(252));
    assert!(config_map_name(&long).len() <= 253);
    assert_ne!(config_map_name(&long), config_map_name(&other));
    let dots = format!("{}x", "a.".repeat(126));
    assert!(!config_map_name(&dots).contains(".-"));
}
