//! The pods behind a Service, as its `EndpointSlices` list them.
//!
//! Role: a Service's port to addresses of pods, without any name being resolved. Inputs: a client, a Service's name and
//! port. Outputs: endpoints that are pods of the namespace, ready or not, or why there are none. Must never import:
//! other rooms than `domain`.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};

use super::connect::cause;

/// Most slices of one Service that are read: 100 endpoints each.
const MOST_SLICES: u32 = 50;

/// One pod behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's name.
    pub pod: String,
    /// Address and target port.
    pub address: SocketAddr,
}

/// The pods of `namespace` behind a Service, at the port that the Service sends `port` to.
///
/// # Errors
/// If the Service cannot be asked through, as a sentence.
pub async fn behind(
    client: &kube::Client,
    namespace: &str,
    service: &str,
    port: NonZeroU16,
) -> Result<Vec<Endpoint>, String> {
    let found = Api::<Service>::namespaced(client.clone(), namespace).get_opt(service).await;
    let found = found.map_err(|error| format!("the Service {service} cannot be read: {}", said(&error)))?;
    let found = found.ok_or_else(|| format!("there is no Service {service} in the namespace"))?;
    let name = port_name(&found, service, port)?;
    let params = ListParams::default().labels(&format!("kubernetes.io/service-name={service}")).limit(MOST_SLICES);
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace).list(&params).await;
    let slices = slices.map_err(|error| format!("the EndpointSlices of {service} cannot be read: {}", said(&error)))?;
    Ok(slices.items.iter().flat_map(|slice| endpoints(slice, namespace, &name)).collect())
}

/// Answers of the API server are said by their message alone.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.chars().filter(|c| !c.is_control()).take(160).collect(),
        other => cause(other),
    }
}

/// The name by which slices list the port; empty if the Service has but one.
fn port_name(found: &Service, service: &str, port: NonZeroU16) -> Result<String, String> {
    let spec = found.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(format!("the Service {service} is of type ExternalName, which leads out of the cluster"));
    }
    let ports = spec.ports.unwrap_or_default();
    let tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let same = ports.iter().find(|one| one.port == i32::from(port.get()) && tcp(one.protocol.as_deref()));
    if let Some(same) = same {
        return Ok(same.name.clone().unwrap_or_default());
    }
    let has: Vec<String> = ports.iter().map(|one| one.port.to_string()).collect();
    Err(format!("the Service {service} has no TCP port {port}; it has {}", has.join(", ")))
}

fn endpoints(slice: &EndpointSlice, namespace: &str, port: &str) -> Vec<Endpoint> {
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        return Vec::new();
    }
    let number = slice
        .ports
        .iter()
        .flatten()
        .find(|one| one.name.as_deref().unwrap_or_default() == port)
        .and_then(|one| u16::try_from(one.port?).ok());
    let Some(number) = number else { return Vec::new() };
    let mut endpoints = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let Some(reference) = &endpoint.target_ref else { continue };
        let elsewhere = reference.namespace.as_deref().is_some_and(|other| other != namespace);
        let (Some("Pod"), Some(pod), false) = (reference.kind.as_deref(), &reference.name, elsewhere) else { continue };
        // The addresses of one endpoint are fungible; clients use the first.
        let ip = endpoint.addresses.first().and_then(|address| address.parse().ok());
        endpoints.extend(ip.map(|ip| Endpoint { pod: pod.clone(), address: SocketAddr::new(ip, number) }));
    }
    endpoints
}
