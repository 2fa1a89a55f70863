# SPDX-License-Identifier: Apache-2.0

# For `make scenario`: a file or a folder, and the kernel (5.10, 6.1, 6.12, 7.2) and containerd
# (1.7, 2.1) that it runs on.
FILE ?= integration/scenarios
KERNEL ?= 6.12
CONTAINERD ?= 2.1

# For `make kube-test`: a file or a folder.
SCENARIOS ?= integration/kube/scenarios

# For `make kube-scale`; `--help` of target/release/kube-scale says what there is. Empty: a size that takes a minute.
SCALE ?= --policies 1000 --nodes 400 --watching 50 --pods 4000 --changes 6 --processes 2

# For `make fuzz`: how long each target runs.
FUZZ_SECONDS ?= 300

# Programs that run in containers of any image must need nothing of it: they are linked
# statically, in a target directory of their own, since other flags would throw away the cache.
STATIC_PACKAGES := varmor-oci-hook varmor-probe
HOOKS := varmor-oci-hook varmor-runtime
STATIC_BUILD := RUSTFLAGS="-C target-feature=+crt-static" cargo build --release \
	--target x86_64-unknown-linux-gnu --target-dir target/static $(STATIC_PACKAGES:%=-p %)

.DEFAULT_GOAL := help
.PHONY: help deps build install image crds lint unit kernels scenario scenarios conformance conformance-document test demo bench fuzz soak vm-shell kube-up kube-node kube-smoke kube-crds kube-test kube-two-nodes kube-latency kube-scale kube-down clean clean-cache

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make scenario FILE=integration/scenarios/x.yaml KERNEL=6.1 CONTAINERD=1.7"

deps: ## installs the Debian packages that are missing (root), and looks for Rust
	@integration/deps

build: deps ## builds everything, the hook and the probe statically
	cargo build --release --workspace --bins --example smoke
	$(STATIC_BUILD)
	@integration/payload

# Built before, by a user who need not be root: `make build && sudo make install`.
install: ## installs what `make build` has built: DESTDIR=
	install -D -m 755 target/release/varmor-nri $(DESTDIR)/usr/sbin/varmor-nri
	install -D -m 755 target/release/varmorctl $(DESTDIR)/usr/bin/varmorctl
	install -D -m 755 -t $(DESTDIR)/usr/libexec/varmor-nri $(HOOKS:%=target/static/x86_64-unknown-linux-gnu/release/%)
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system deploy/systemd/varmor-nri.service
	install -D -m 644 deploy/systemd/varmor-nri.tmpfiles.conf $(DESTDIR)/usr/lib/tmpfiles.d/varmor-nri.conf
	install -d $(DESTDIR)/etc/varmor-nri/policies.d $(DESTDIR)/usr/share/man/man1 \
	  $(DESTDIR)/usr/share/bash-completion/completions $(DESTDIR)/usr/share/zsh/vendor-completions
	target/release/varmorctl man > $(DESTDIR)/usr/share/man/man1/varmorctl.1
	for command in validate render explain; do \
	  target/release/varmorctl man $$command > $(DESTDIR)/usr/share/man/man1/varmorctl-$$command.1 || exit 1; done
	target/release/varmorctl completions bash > $(DESTDIR)/usr/share/bash-completion/completions/varmorctl
	target/release/varmorctl completions zsh > $(DESTDIR)/usr/share/zsh/vendor-completions/_varmorctl

image: build ## the image that deploy/kubernetes names, as an OCI archive: target/policy-sync.tar
	deploy/image/build target/release/policy-sync target/policy-sync.tar

crds: ## writes deploy/crds anew, after a change of the policies' types or rules
	cargo run -p varmor-policy --bin varmor-crdgen deploy/crds

lint: deps ## rustfmt, clippy without warnings, licences and sources of the dependencies, licence headers
	integration/licence-headers
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	integration/cargo-deny --log-level error check bans licenses sources

unit: deps ## unit and property tests, natively
	@if cargo nextest --version > /dev/null 2>&1; \
	then echo cargo nextest run --workspace; cargo nextest run --workspace --no-tests pass; \
	else echo cargo test --workspace; cargo build --workspace --examples && cargo test --workspace --lib --bins --tests; fi
	cargo test --workspace --doc

kernels: deps ## fetches the kernels and builds the disk images of the test VM, all of them
	@for kernel in 5.10 6.1 6.12 7.2; do \
	  integration/vm/build-initrd $$kernel && integration/vm/build-modules $$kernel || exit 1; done
	@integration/vm/build-root

scenario: build ## runs scenarios in the test VM: FILE= files or folders, KERNEL=, CONTAINERD=
	target/release/scenario --kernel $(KERNEL) --containerd $(CONTAINERD) $(FILE)

scenarios: build ## runs all scenarios, those of Kubernetes too, and those of the demo on every kernel and containerd; ONLY= a pattern
	@integration/all-scenarios "$(ONLY)"

conformance: build ## every rule on every enforcer, and docs/conformance.md: KERNEL= one kernel, or all of them in full
	target/release/conformance $(if $(filter command line environment,$(origin KERNEL)),--kernel $(KERNEL))

conformance-document: build ## docs/conformance.md of the last runs of each kernel, where they were of what is built now
	target/release/conformance document

test: lint unit scenarios ## everything there is

demo: build ## shows a policy taking hold of a running pod, step by step
	@target/release/demo --kernel $(KERNEL) --containerd $(CONTAINERD)

bench: build ## measures what the enforcement costs
	@integration/bench/run

fuzz: deps ## fuzzes each reader of foreign bytes: FUZZ_SECONDS= for each, 300 when absent
	@fuzz/run $(FUZZ_SECONDS)

soak: build ## 50 container starts for each enforcer, each of which must be refused
	target/release/scenario --kernel $(KERNEL) --containerd $(CONTAINERD) --repeat 50 integration/scenarios/first-instruction

kube-up: build ## a Kubernetes cluster to try things in: control plane here, node in the test VM; KERNEL=
	@integration/kube/up > /dev/null
	@integration/kube/controllers-up
	@integration/kube/node-up --kernel $(KERNEL)
	@integration/kube/hello

kube-node: build ## the same cluster with a new node, with what was just built; KERNEL=
	@integration/kube/node-down
	@integration/kube/node-up --kernel $(KERNEL)
	@integration/kube/hello

kube-crds: deps ## what the API server accepts and refuses of policies, in a control plane of its own
	@export VARMOR_KUBE_STATE=target/kube-crds; trap integration/kube/down EXIT; \
	  integration/kube/up > /dev/null && integration/kube/crd-test

kube-smoke: build ## a Deployment in a cluster of its own, and a policy file on its node; KERNEL=
	@export VARMOR_KUBE_STATE=target/kube-smoke; trap integration/kube/down EXIT; \
	  integration/kube/up > /dev/null && integration/kube/node-up --kernel $(KERNEL) --timeout 1200 && integration/kube/smoke

kube-test: build ## all of the cluster's scenarios, in a cluster of its own; SCENARIOS= a file or folder
	@integration/kube/test $(SCENARIOS)

kube-two-nodes: build ## the scenario of two nodes, in a cluster of its own; not in `make test`: a second VM for one scenario
	@VARMOR_KUBE_NODES=2 integration/kube/test integration/kube/scenarios-two-nodes

kube-latency: build ## a hundred changes of a policy in the cluster that is up: how long each part takes
	target/release/kube-latency

kube-scale: build ## 400 simulated nodes, 1,000 policies, 4,000 pods on a control plane of its own (6 minutes); SCALE= another size
	@nice integration/kube/scale $(SCALE)

kube-down: ## ends the cluster
	@integration/kube/down

vm-shell: build ## a shell in the test VM, with containerd running: KERNEL=, CONTAINERD=
	@integration/vm/run --kernel $(KERNEL) --payload "$$(integration/payload)" --shell -- 'containerd-up $(CONTAINERD)'

clean: ## removes what was built
	cargo clean

clean-cache: ## removes the kernels and disk images, for newer ones
	rm -rf "$${VARMOR_CACHE:-$$HOME/.cache/varmor-nri}"
