use serde_json::{Value, json};

use super::*;
use crate::domain::rollout::Side;

fn spec(json: Value) -> ProbeSpec {
    serde_json::from_value(json).unwrap()
}

fn error(json: Value) -> String {
    probes(&[spec(json!({"name": "first", "tcp": {"port": 80}})), spec(json)]).unwrap_err().to_string()
}

#[test]
fn a_probe_of_a_port_and_a_name_gets_its_defaults() {
    let policy = probes(&[spec(json!({"name": "health", "http": {"port": 8080}}))]).unwrap();
    let probe = &policy.probes[0];
    assert_eq!((probe.port.get(), probe.timeout, &probe.at), (8080, Duration::from_secs(2), &At::Pods));
    let Question::Http(http) = &probe.question else { panic!("{probe:?}") };
    assert_eq!((http.path.as_str(), http.scheme, http.verify), ("/", Spoken::Http, false));
    assert_eq!(http.expect.status.to_string(), "200-399");
}

#[test]
fn each_kind_of_probe_is_read() {
    let policy = probes(&[
        spec(json!({"name": "web", "service": "api", "timeout": "500ms", "http": {
            "port": 443, "scheme": "HTTPS", "path": "/healthz?full=1", "serverName": "api.example.com",
            "insecureSkipVerify": false, "expectStatus": "200,204-206", "bodyContains": "ok",
            "expectVersion": "{imageTag}", "versionHeader": "X-App-Version"}})),
        spec(json!({"name": "port", "tcp": {"port": 5432}})),
        spec(json!({"name": "rpc", "grpc": {"port": 9000, "service": "shop.Cart"}})),
    ])
    .unwrap();
    let [web, port, rpc] = policy.probes.as_slice() else { panic!("{policy:?}") };
    assert_eq!((&web.at, web.timeout), (&At::Service("api".into()), Duration::from_millis(500)));
    let Question::Http(http) = &web.question else { panic!("{web:?}") };
    assert!(http.verify && http.expect.status.contains(205) && !http.expect.status.contains(201));
    let version = http.expect.version.as_ref().unwrap();
    assert_eq!(version.header(), Some("x-app-version"));
    assert_eq!(version.wanted(Side::Old, Some("1.0")), crate::domain::probe::version::Wanted::Version("1.0".into()));
    assert_eq!(port.question, Question::Tcp);
    assert_eq!(rpc.question, Question::Grpc { service: "shop.Cart".into() });
}

#[test]
fn each_refusal_names_the_field_and_the_cure() {
    let http = |fields: Value| {
        let mut http = json!({"port": 80});
        http.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"name": "web", "http": http})
    };
    for (wrong, sentence) in [
        (json!({"name": "web"}), "spec.probes[1] needs exactly one of http, tcp and grpc"),
        (json!({"name": "web", "tcp": {"port": 1}, "grpc": {"port": 1}}), "spec.probes[1] needs exactly one"),
        (json!({"name": "first", "tcp": {"port": 1}}), "spec.probes[1].name first stands there twice"),
        (json!({"name": "A b", "tcp": {"port": 1}}), "spec.probes[1].name must begin with a letter"),
        (json!({"name": "web", "service": "a/b", "tcp": {"port": 1}}), "spec.probes[1].service must begin"),
        (json!({"name": "web", "tcp": {"port": 0}}), "spec.probes[1].tcp.port is 0, but must lie between 1 and 65535"),
        (json!({"name": "web", "grpc": {"port": 65536}}), "spec.probes[1].grpc.port is 65536"),
        (json!({"name": "web", "timeout": "1m", "tcp": {"port": 1}}), "spec.probes[1].timeout is 1m, but must lie"),
        (json!({"name": "web", "timeout": "soon", "tcp": {"port": 1}}), "write for example 30s"),
        (http(json!({"path": "healthz"})), "spec.probes[1].http.path must begin with one /"),
        (http(json!({"path": "//evil/x"})), "spec.probes[1].http.path must begin with one /"),
        (http(json!({"path": "/a b"})), "percent-encoded"),
        (http(json!({"path": "/a#b"})), "spec.probes[1].http.path has a #"),
        (http(json!({"path": "/a\r\nHost: x"})), "spec.probes[1].http.path must"),
        (http(json!({"expectStatus": "2xx"})), "spec.probes[1].http.expectStatus is \"2xx\"; write statuses"),
        (http(json!({"expectStatus": "399-200"})), "such as 200-399"),
        (http(json!({"bodyContains": ""})), "spec.probes[1].http.bodyContains must have 1 to 256"),
        (http(json!({"versionHeader": "X-V"})), "spec.probes[1].http.versionHeader says where expectVersion"),
        (http(json!({"expectVersion": "{tag}"})), "spec.probes[1].http.expectVersion is \"{tag}\", but {imageTag}"),
        (http(json!({"expectVersion": "1", "versionHeader": "a b"})), "spec.probes[1].http.versionHeader must be"),
        (http(json!({"insecureSkipVerify": false})), "spec.probes[1].http.insecureSkipVerify is false, which needs"),
        (http(json!({"serverName": "a b"})), "spec.probes[1].http.serverName must be a host name"),
    ] {
        let said = error(wrong.clone());
        assert!(said.contains(sentence), "{wrong}: {said}");
    }
}

#[test]
fn more_than_eight_probes_are_refused() {
    let many: Vec<_> = (0..9).map(|n| spec(json!({"name": format!("p{n}"), "tcp": {"port": 1}}))).collect();
    assert!(probes(&many).unwrap_err().to_string().contains("spec.probes has 9 entries, but there can be 8 at most"));
    assert_eq!(probes(&many[..8]).unwrap().probes.len(), 8);
}
