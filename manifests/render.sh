#!/usr/bin/env bash
# Writes the manifests of this folder from the chart: render.sh HELM FOLDER. `make manifests` calls it.
set -euo pipefail
helm=$1 out=$2
chart=$(dirname "$0")/../charts/deployment-guard
mkdir -p "$out/examples"

render() {
  "$helm" template deployment-guard "$chart" --namespace deployment-guard --kube-version 1.36.0 --no-hooks "$@" | sed -e '/^# Source: /d' -e 's/[[:space:]]*$//' | awk 'NF'
}

{
  cat <<'YAML'
# DeploymentGuard: the operator with the least rights it needs. Apply `crds/` first:
#   kubectl apply --server-side -f crds/ -f manifests/install.yaml
# Written by `make manifests` from charts/deployment-guard; do not edit.
apiVersion: v1
kind: Namespace
metadata:
  name: deployment-guard
  labels:
    pod-security.kubernetes.io/enforce: restricted
YAML
  render --set crds.install=false,roles.create=false,admissionPolicies.people=false,admissionPolicies.operator=false
} >"$out/install.yaml"

{
  cat <<'YAML'
# Admission policies of DeploymentGuard: nobody gets more out of a guard than they may do themselves, and the operator
# changes no more of a workload than an undo needs. No webhook: the API server evaluates them. Apply after `crds/`:
#   kubectl apply --server-side -f manifests/admission-policy.yaml
# Whoever installs the operator under another namespace or ServiceAccount changes `system:serviceaccount:…` below.
# Written by `make manifests` from charts/deployment-guard; do not edit.
YAML
  render --show-only templates/policies.yaml
} >"$out/admission-policy.yaml"

{
  cat <<'YAML'
# Roles for people. Written by `make manifests` from charts/deployment-guard; do not edit.
YAML
  render --show-only templates/roles.yaml
} >"$out/examples/roles.yaml"
