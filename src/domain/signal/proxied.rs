//! Series that a proxy keeps of a Service, and how they say which.
//!
//! Role: the labels that hold such series to one Service of the guard's namespace, in each way in which Prometheus may
//! have stored them; it renames a label that the target has too to `exported_…` unless it is told to keep it. Inputs: a
//! preset, a namespace, the name of a Service. Outputs: `Address`es to try. Must never import: other rooms.

use super::resolve::{names_matcher, resolve};
use super::{Found, LabelSet, Matcher, Measure, Operator, Preset, Resolved, Selector};
use crate::domain::assess::MissingReason;
use std::collections::BTreeSet;

/// One way in which series may name a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Vec<Matcher>);

/// The ways to try, in order; at most one of them matches what one Prometheus stores.
#[must_use]
pub fn addresses(preset: Preset, namespace: &str, service: &str) -> Vec<Address> {
    let services = |operator, value: &str| stored("service", operator, value);
    match preset {
        Preset::NginxIngress => {
            let spaces = stored("namespace", Operator::Equal, namespace);
            let both = |space: &Vec<Matcher>| {
                let of = |service: Vec<Matcher>| Address([space.clone(), service].concat());
                services(Operator::Equal, service).map(of)
            };
            spaces.iter().flat_map(both).collect()
        }
        Preset::Traefik => {
            // Traefik joins namespace, Service and port, or namespace, IngressRoute and a hash. A port or hash has no dash,
            // so that `web` is not `web-admin`.
            let name = regex::escape(&format!("{namespace}-{service}")).replace("\\-", "-");
            let name = format!("{name}-[a-z0-9]+@kubernetes(crd)?");
            services(Operator::Matches, &name).map(Address).to_vec()
        }
        _ => Vec::new(),
    }
}

/// A label as the exporter wrote it: under its own name only where the target has none of that name.
fn stored(label: &str, operator: Operator, value: &str) -> [Vec<Matcher>; 2] {
    let exported = format!("exported_{label}");
    [
        vec![Matcher::new(&exported, operator, value)],
        vec![Matcher::new(label, operator, value), Matcher::new(&exported, Operator::Equal, "")],
    ]
}

impl Address {
    /// The selector that lists the series a preset may choose from.
    #[must_use]
    pub fn discovery_selector(&self, preset: Preset) -> Selector {
        Selector::of("", vec![names_matcher(preset)]).with(&self.0).without_name()
    }

    /// What a preset means, given the series of this Service.
    #[must_use]
    pub fn resolve(&self, preset: Preset, series: &[LabelSet]) -> Resolved {
        let found = resolve(preset, series, &BTreeSet::new());
        let held = |found: Result<Found, MissingReason>| match found {
            Ok(found) => Ok(Found { measure: Measure::Proxied(Box::new(self.hold(found.measure))), ..found }),
            Err(MissingReason::NoRequestCounter | MissingReason::NoHistogram) => Err(MissingReason::NoSuchService),
            Err(reason) => Err(reason),
        };
        Resolved { errors: held(found.errors), latency: held(found.latency) }
    }

    fn hold(&self, measure: Measure) -> Measure {
        match measure {
            Measure::Ratio { bad, total } => Measure::Ratio { bad: bad.with(&self.0), total: total.with(&self.0) },
            Measure::Histogram { buckets, unit } => Measure::Histogram { buckets: buckets.with(&self.0), unit },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rollout::PodName;
    use crate::domain::signal::Query;

    fn series(name: &str, labels: &[&str]) -> LabelSet {
        let pairs = labels.iter().map(|label| ((*label).to_owned(), "x".to_owned()));
        pairs.chain([("__name__".to_owned(), name.to_owned())]).collect()
    }

    #[test]
    fn labels_are_looked_for_renamed_and_as_they_were_written_and_never_mixed_up_with_the_targets_own() {
        let ways: Vec<String> = addresses(Preset::NginxIngress, "shop", "web")
            .iter()
            .map(|address| address.discovery_selector(Preset::NginxIngress).to_string())
            .collect();
        assert_eq!(ways.len(), 4);
        assert!(ways[0].contains(r#"exported_namespace="shop",exported_service="web""#), "{}", ways[0]);
        assert!(ways[3].contains(r#"exported_namespace="",exported_service="",namespace="shop",service="web""#));
        // The namespace of the proxy's own pod is nobody's.
        assert!(ways.iter().all(|way| way.contains("exported_namespace=")));
    }

    #[test]
    fn traefik_names_of_another_service_do_not_match() {
        let way = &addresses(Preset::Traefik, "shop", "web")[0].0[0];
        assert_eq!(way.label, "exported_service");
        let anchored = regex::Regex::new(&format!("^(?:{})$", way.value)).unwrap();
        for own in ["shop-web-80@kubernetes", "shop-web-http@kubernetes", "shop-web-6f97418635c7e18853da@kubernetescrd"]
        {
            assert!(anchored.is_match(own), "{own}");
        }
        for other in [
            "shop-web-admin-80@kubernetes",
            "shop-webs-80@kubernetes",
            "other-shop-web-80@kubernetes",
            "shop-web-80@file",
        ] {
            assert!(!anchored.is_match(other), "{other}");
        }
    }

    #[test]
    fn a_proxy_is_asked_by_itself_and_held_to_no_pods() {
        let address = &addresses(Preset::NginxIngress, "shop", "web")[0];
        let found = address.resolve(
            Preset::NginxIngress,
            &[
                series("nginx_ingress_controller_requests", &["status", "path"]),
                series("nginx_ingress_controller_request_duration_seconds_bucket", &["le", "path"]),
            ],
        );
        let errors = found.errors.unwrap();
        let query = Query::new(&errors.measure, &[PodName::new("shop", "web")]);
        let text = query.as_str();
        assert!(
            text.contains(r#"sum by (instance) (nginx_ingress_controller_requests{exported_namespace="shop""#),
            "{text}"
        );
        assert!(text.contains(r#"status=~"5..""#) && !text.contains("pod"), "{text}");
        let latency = Query::new(&found.latency.unwrap().measure, &[]);
        assert!(latency.as_str().contains("sum by (instance,le)"), "{}", latency.as_str());
        assert_eq!(address.resolve(Preset::NginxIngress, &[]).errors, Err(MissingReason::NoSuchService));
    }
}
