//! What the operator's account may do.
//!
//! Role: asks the API server, which changes nothing. Inputs: a verb and a workload kind. Outputs: yes or no. Must never
//! import: other rooms than `domain`.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::domain::policy::Kind;

/// Whether we may put a template back in a workload of this kind in this namespace.
///
/// # Errors
/// If the API server does not answer, or does not say.
pub async fn may_patch(client: &Client, namespace: &str, kind: Kind) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("patch".to_owned()),
        group: Some("apps".to_owned()),
        resource: Some(kind.plural().to_owned()),
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_none_or(|status| status.allowed))
}
