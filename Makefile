# Everything a contributor does, in one place. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(or $(DEPLOYMENT_GUARD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/deployment-guard)
export DEPLOYMENT_GUARD_CACHE := $(CACHE)
# A build server starts from a clean checkout: keep what was built outside it.
ifdef CI
export CARGO_TARGET_DIR ?= $(CACHE)/target
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)
TESTBED := $(TARGET)/debug/testbed
CHART := charts/deployment-guard
DENY_VERSION := 0.20.2
DENY := $(CACHE)/tools/bin/cargo-deny
FUZZ_VERSION := 0.13.2
FUZZ := $(CACHE)/tools/bin/cargo-fuzz
FUZZ_TARGETS := log_parser log_mask probe_response llm_reply

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: testbed images ## Run the main job on a real cluster: good and bad releases, the undo, the decision (KEEP=1 leaves it up)
	@$(TESTBED) run $(if $(KEEP),--keep) -- $(TARGET)/debug/demo

.PHONY: trials
trials: testbed images ## Bad and healthy releases with default guards: what is undone, how soon (SCRAPE=5s, REPLICAS=2, ARGS='--scenario NAME')
	@$(TESTBED) run --scrape-interval $(or $(SCRAPE),1s) --prometheus-replicas $(or $(REPLICAS),1) -- $(TARGET)/debug/trials $(ARGS)

.PHONY: test
test: lint unit presets fuzz-short e2e ## Everything that must pass: lints, unit and property tests, presets, short fuzzing, the real cluster

.PHONY: lint
lint: fmt-check clippy generated deny ## Format, clippy, generated files, licences and bans

.PHONY: fmt
fmt: ## Format the sources
	cargo fmt --all

.PHONY: fmt-check
fmt-check:
	@echo "== format"; cargo fmt --all -- --check

.PHONY: clippy
clippy:
	@echo "== clippy"; cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

.PHONY: deny
deny: $(DENY) ## Licences and banned dependencies (ADVISORIES=1 also asks the advisory database on the internet)
	@echo "== licences, bans, sources"; $(DENY) --log-level error check licenses bans sources $(if $(ADVISORIES),advisories)

$(DENY):
	@echo "== building cargo-deny $(DENY_VERSION), once"
	@CARGO_TARGET_DIR=$(CACHE)/deny-target cargo install cargo-deny --version $(DENY_VERSION) --locked --no-default-features --quiet --root $(CACHE)/tools
	@rm -rf $(CACHE)/deny-target

.PHONY: fuzz
fuzz: $(FUZZ) ## Fuzz what reads text from outside, each target for SECONDS=300
	@# The pinned toolchain is a stable one; instrumentation needs the variable. There is no unsafe code for a sanitizer.
	@for target in $(FUZZ_TARGETS); do \
	   echo "== fuzzing $$target"; seeds=$(CACHE)/fuzz-corpus/$$target; mkdir -p $$seeds; \
	   split -l 1 -a 4 tests/logs/corpus.jsonl $$seeds/line-; \
	   CARGO_TARGET_DIR=$(CACHE)/fuzz-target RUSTC_BOOTSTRAP=1 PATH="$(CACHE)/tools/bin:$$PATH" cargo fuzz run --sanitizer none $$target $$seeds -- \
	     -max_total_time=$(or $(SECONDS),300) -max_len=4096 -rss_limit_mb=1024 -timeout=10 -verbosity=0 -print_final_stats=1; done

.PHONY: fuzz-short
fuzz-short:
	@$(MAKE) --no-print-directory fuzz SECONDS=20

$(FUZZ):
	@echo "== building cargo-fuzz $(FUZZ_VERSION), once"
	@CARGO_TARGET_DIR=$(CACHE)/cargo-fuzz-target cargo install cargo-fuzz --version $(FUZZ_VERSION) --locked --quiet --root $(CACHE)/tools
	@rm -rf $(CACHE)/cargo-fuzz-target

.PHONY: unit
unit: chart-tools ## Unit, property, golden and recorded-API tests
	@echo "== unit and property tests"; cargo test --workspace --locked --lib --bins --test advise --test architecture --test chart --test cli --test crds --test docs --test explain --test failpoints --test guarantee --test replay
	@# These wait more than they compute, so more of them than there are cores may wait side by side.
	@echo "== the control loop against a recording API server"; RUST_TEST_THREADS=10 cargo test --locked --test reconcile

.PHONY: presets
presets: testbed ## What exporters write, through the real Prometheus, read and judged by each preset
	@echo "== presets against the real Prometheus"; cargo test --locked --test presets

.PHONY: e2e
e2e: testbed ## Tests on the real cluster
	@echo "== tests on the real cluster"
	@$(TESTBED) images --failpoints
	@cargo test --locked --test e2e --no-run
	@$(TESTBED) run --nodes 2 --with helm,flux,llm -- cargo test --locked --offline --test e2e
	@echo "== a real server of language models"
	@cargo test --locked --test advise -- --ignored
	@echo "== the testbed leaves nothing behind"
	@cargo test --locked -p testbed --test '*'

.PHONY: bench
bench: testbed images bench-chain bench-evidence bench-logs bench-pod-truth ## Print the bench tables and write target/bench/*.json
	@# What is measured is the operator's release binary, which `testbed images` built; the benches only drive it.
	@cargo build --locked --quiet --bench tick --bench watch
	@$(TESTBED) run --no-images -- cargo bench --locked --quiet --profile dev --bench watch
	@$(TESTBED) run --scrape-interval 5s -- cargo bench --locked --quiet --profile dev --bench tick

.PHONY: bench-pod-truth
bench-pod-truth: testbed images ## Crash loops, missing images and the like on the real cluster: how soon each is undone
	@cargo build --locked --quiet --bench pod_truth
	@$(TESTBED) run --scrape-interval 5s -- cargo bench --locked --quiet --profile dev --bench pod_truth

.PHONY: bench-evidence
bench-evidence: ## Simulate releases, compare the rules, rewrite the tables and plots of docs/evidence.md
	@cargo bench --locked --quiet --bench evidence

.PHONY: bench-logs
bench-logs: ## Read logs: lines a second and core, memory
	@cargo bench --locked --quiet --bench logs

.PHONY: bench-chain
bench-chain: ## Ask a model double a thousandfold: time, memory, calls within budgets
	@cargo bench --locked --quiet --bench chain

.PHONY: crds
crds: ## Write crds/, their copies in the chart, and docs/reference.md, from the types
	@cargo run --quiet --locked -- crd --out-dir crds
	@cargo run --quiet --locked -- crd --markdown > docs/reference.md
	@cp crds/*.yaml $(CHART)/files/crds/

.PHONY: manifests
manifests: chart-tools ## Write manifests/ from the chart
	@manifests/render.sh "$$($(TESTBED) program helm)" manifests

.PHONY: generated
generated: chart-tools
	@echo "== generated files"
	@fresh=$$(mktemp -d); trap 'rm -rf $$fresh' EXIT; cargo run --quiet --locked -- crd --out-dir $$fresh/crds; \
	 diff -ru crds $$fresh/crds && diff -ru crds $(CHART)/files/crds || { echo "crds/ is out of date: run make crds and commit the result"; exit 1; }; \
	 cargo run --quiet --locked -- crd --markdown | diff -u docs/reference.md - || { echo "docs/reference.md is out of date: run make crds and commit the result"; exit 1; }; \
	 manifests/render.sh "$$($(TESTBED) program helm)" $$fresh/manifests; \
	 for file in install.yaml admission-policy.yaml examples/roles.yaml; do \
	   diff -u manifests/$$file $$fresh/manifests/$$file || { echo "manifests/ is out of date: run make manifests and commit the result"; exit 1; }; done

.PHONY: chart-tools
chart-tools:
	@command -v go >/dev/null || { echo "missing: go (1.26 or later), from https://go.dev/dl"; exit 2; }
	@cargo build --locked --quiet -p testbed
	@$(TESTBED) build --only helm,helm3,promtool

.PHONY: tools
tools:
	@missing=""; for tool in runc iptables ip unshare nsenter; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	 if [ -n "$$missing" ]; then \
	   if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	     echo "== installing$$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq runc iptables iproute2 util-linux >/dev/null; \
	   else echo "missing:$$missing; install runc, iptables, iproute2 and util-linux"; exit 2; fi; fi
	@command -v go >/dev/null || { echo "missing: go (1.26 or later), from https://go.dev/dl"; exit 2; }
	@command -v cargo >/dev/null || { echo "missing: cargo, from https://rustup.rs"; exit 2; }

.PHONY: testbed
testbed: tools ## Build the cluster: Kubernetes, containerd, Prometheus from Go modules, once
	@cargo build --locked --quiet -p testbed
	@$(TESTBED) build

.PHONY: images
images: testbed ## Build the operator and the demo's programs as images
	@$(TESTBED) images

.PHONY: up
up: testbed images ## Start a cluster to play with
	@$(TESTBED) up

.PHONY: down
down: ## End it
	@$(TESTBED) down

.PHONY: shell
shell: ## A shell in it
	@$(TESTBED) shell

.PHONY: clean
clean: ## Remove what was built in the checkout (caches outside stay)
	cargo clean
