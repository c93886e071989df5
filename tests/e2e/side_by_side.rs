//! Our undo beside `kubectl rollout undo`, on Deployments of their own: no guard, no pods that run, the library's `Act` alone.
//!
//! Both speak to the API server through a gateway in this process, which lets somebody else write in the moment between
//! what a tool has read and what it sends. So the race is the same for both, every time.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use deployment_guard::act::{Act, UndoOutcome};
use deployment_guard::domain::policy::{Kind, Target};
use deployment_guard::domain::redact::Redactor;
use deployment_guard::domain::rollout::RevisionHash;
use deployment_guard::domain::undo::UndoRequest;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use tokio::net::TcpListener;

use crate::scene::{Deployment, Scene};

/// Of the three templates the first is good, the second bad, the third the fix of somebody who was faster.
const GOOD: u8 = 1;
const BAD: u8 = 2;
const FIX: u8 = 3;

/// Version `number`, for a scheduler that does not exist. What only the first has must come back with it, character by character.
fn template(number: u8) -> Value {
    let mut container = json!({"name": "shop", "image": format!("localhost/shop:v{number}")});
    if number == GOOD {
        container["args"] = json!(["sh", "-c", "a < b && c > d"]);
        container["env"] = json!([{"name": "OLD", "value": ""}, {"name": "ODD", "value": "ÄÖ\u{2028}"}]);
        container["restartPolicy"] = Value::Null;
    }
    json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"schedulerName": "nobody", "containers": [container]}})
}

fn deployment(name: &str, number: u8) -> String {
    let labels = json!({"app": "shop"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template(number)},
    })
    .to_string()
}

/// Waits until the controller has made the revision of a version.
async fn revision(scene: &Scene, name: &str, number: u8) -> Result<String> {
    let image = format!("localhost/shop:v{number}");
    let look = async || {
        let sets = scene.get(&["replicasets"]).await.map_err(|error| format!("{error:#}"))?;
        let of = |set: &&Value| {
            set["metadata"]["ownerReferences"][0]["name"] == name
                && set["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str()
        };
        let found = sets["items"].as_array().into_iter().flatten().find(of);
        let hash = found.and_then(|set| set["metadata"]["labels"]["pod-template-hash"].as_str());
        hash.map(str::to_owned).ok_or_else(|| "no ReplicaSet".to_owned())
    };
    wait_for(&format!("the ReplicaSet of {name} {number}"), Duration::from_secs(30), look).await.context("revision")
}

async fn push(scene: &Scene, name: &str, number: u8) -> Result<()> {
    scene.kubectl_with(&["apply", "-f", "-"], &deployment(name, number)).await?;
    Ok(())
}

/// A good release, then a bad one, then somebody's note on the Deployment.
async fn released(scene: &Scene, name: &str) -> Result<()> {
    for number in [GOOD, BAD] {
        push(scene, name, number).await?;
        revision(scene, name, number).await?;
    }
    scene.kubectl(&["annotate", "deployment", name, "team.example/on-call=eve"]).await?;
    Ok(())
}

/// Who undoes the bad release.
#[derive(Clone, Copy, Debug)]
enum Hand {
    Kubectl,
    Ours,
}

impl Hand {
    /// Undoes through the gateway; what became of it.
    async fn undo(self, scene: &Scene, name: &str, gateway: &str) -> Result<Option<UndoOutcome>> {
        let Self::Ours = self else {
            let server = format!("--server={gateway}");
            scene.kubectl(&["rollout", "undo", &server, &format!("deployment/{name}")]).await?;
            return Ok(None);
        };
        let config = Config::new(gateway.parse()?);
        let act = Act::new(Client::try_from(config)?, Arc::new(Redactor::new()), Duration::from_secs(20));
        let request = UndoRequest {
            decision_id: format!("{name}-1"),
            namespace: scene.namespace.clone(),
            target: Target { kind: Kind::Deployment, name: name.to_owned() },
            uid: scene.deployment_named(name).await?.uid().into(),
            from: RevisionHash::new(&revision(scene, name, BAD).await?),
            to: RevisionHash::new(&revision(scene, name, GOOD).await?),
            kept: None,
        };
        Ok(Some(act.undo(&request, &|| true).await?))
    }
}

/// What somebody else does between what a tool has read and what it sends.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    PushesFix,
    Scales,
}

impl Meanwhile {
    async fn happens(self, scene: &Scene, name: &str) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::PushesFix => push(scene, name, FIX).await,
            Self::Scales => scene.kubectl(&["scale", "deployment", name, "--replicas=1"]).await.map(|_| ()),
        }
    }
}

/// Passes requests on; before the first patch that is no dry run somebody else writes.
struct Gateway {
    server: Client,
    scene: Scene,
    name: String,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Gateway {
    /// Opens it; the address for whoever is to go through it.
    async fn open(scene: &Scene, name: &str, meanwhile: Meanwhile) -> Result<(Arc<Self>, String)> {
        let kubeconfig = Kubeconfig::read_from(scene.cluster.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let gateway = Arc::new(Self {
            server: Client::try_from(config)?,
            scene: scene.clone(),
            name: name.to_owned(),
            meanwhile: Mutex::new(Some(meanwhile)),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let own = gateway.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                let serve = service_fn(move |request| {
                    let own = own.clone();
                    async move { Ok::<_, Infallible>(own.answer(request).await) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        Ok((gateway, address))
    }

    /// What has not happened yet; from now on it has.
    fn take(&self) -> Option<Meanwhile> {
        self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.pass(request).await.unwrap_or_else(|error| {
            let mut response = Response::new(Full::new(Bytes::from(format!("{error:#}"))));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        })
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let for_good = !request.uri().query().is_some_and(|query| query.contains("dryRun"));
        if request.method() == Method::PATCH
            && for_good
            && let Some(meanwhile) = self.take()
        {
            meanwhile.happens(&self.scene, &self.name).await?;
        }
        let (mut head, body) = request.into_parts();
        head.headers.remove(http::header::HOST);
        let body = Body::from(body.collect().await?.to_bytes().to_vec());
        let (mut head, body) = self.server.send(Request::from_parts(head, body)).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

/// A release, an undo by this hand; the Deployment afterwards.
async fn undone(scene: &Scene, hand: Hand, meanwhile: Meanwhile) -> Result<(Deployment, Option<UndoOutcome>)> {
    let name = format!("{hand:?}-{meanwhile:?}").to_lowercase();
    released(scene, &name).await?;
    let (gateway, address) = Gateway::open(scene, &name, meanwhile).await?;
    let outcome = hand.undo(scene, &name, &address).await?;
    ensure!(gateway.take().is_none(), "no patch went through the gateway");
    Ok((scene.deployment_named(&name).await?, outcome))
}

fn note(deployment: &Deployment) -> &Value {
    &deployment.0["metadata"]["annotations"]["team.example/on-call"]
}

/// The same releases, the same push at the same moment, the same note: once for kubectl, once for us.
pub async fn what_kubectl_rollout_undo_loses_is_kept(scene: Scene) -> Result<()> {
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    push(&scene, "reference", GOOD).await?;
    let reference = scene.deployment_named("reference").await?.0["spec"]["template"].clone();

    // A push between reading and sending.
    let (theirs, _) = undone(&scene, Hand::Kubectl, Meanwhile::PushesFix).await?;
    ensure!(theirs.image() == "localhost/shop:v1", "kubectl did not overwrite the fix: {}", theirs.image());
    let (ours, outcome) = undone(&scene, Hand::Ours, Meanwhile::PushesFix).await?;
    ensure!(outcome == Some(UndoOutcome::Superseded), "{outcome:?}");
    ensure!(ours.image() == "localhost/shop:v3", "the fix is lost: {}", ours.image());
    ensure!(note(&ours) == "eve" && ours.last_rollback().is_empty(), "{}", ours.0["metadata"]["annotations"]);

    // What others wrote on the Deployment since the good release.
    let (theirs, _) = undone(&scene, Hand::Kubectl, Meanwhile::Nothing).await?;
    ensure!(theirs.image() == "localhost/shop:v1", "{}", theirs.image());
    ensure!(note(&theirs).is_null(), "kubectl kept the note: {}", theirs.0["metadata"]["annotations"]);
    let (ours, outcome) = undone(&scene, Hand::Ours, Meanwhile::Nothing).await?;
    let Some(UndoOutcome::Patched { .. }) = outcome else { bail!("{outcome:?}") };
    ensure!(note(&ours) == "eve", "the note is lost: {}", ours.0["metadata"]["annotations"]);
    ensure!(ours.last_rollback() == "ours-nothing-1", "{}", ours.last_rollback());

    // And the template came back as it was.
    let restored = &ours.0["spec"]["template"];
    ensure!(*restored == reference, "restored: {restored}\nas it was: {reference}");
    Ok(())
}

/// Replicas belong to whoever scales.
pub async fn an_autoscaler_that_writes_at_the_same_moment_does_not_matter(scene: Scene) -> Result<()> {
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    let (ours, outcome) = undone(&scene, Hand::Ours, Meanwhile::Scales).await?;
    let Some(UndoOutcome::Patched { .. }) = outcome else { bail!("{outcome:?}") };
    ensure!(ours.image() == "localhost/shop:v1", "{}", ours.image());
    ensure!(ours.0["spec"]["replicas"] == 1, "replicas: {}", ours.0["spec"]["replicas"]);
    Ok(())
}
