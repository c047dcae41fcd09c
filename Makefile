# Everything a person or CI does here. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
UV ?= uv
VENV := .venv
PY := $(VENV)/bin/python
# One copy of each file instead of hard links: the cache and the tree may be on different file systems.
export UV_LINK_MODE := copy
SOURCES := common/src policy/src cli/src local/src services/identity/src services/destination/src services/injector/src \
	services/proxy/src services/metrics-api/src services/web/src examples/bookshop/src

.PHONY: help setup system format check test test-rust fuzz test-kubernetes test-cluster images demo bench bench-control clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: system ## install everything needed into .venv (idempotent)
	@scripts/setup

system:
	@scripts/system-packages

format: ## rewrite the code in the one style
	$(VENV)/bin/ruff check --fix --quiet .
	$(VENV)/bin/ruff format --quiet .
	cargo fmt --manifest-path services/proxy/engine/Cargo.toml --all

check: setup ## format, lint, types, import contract, unit tests: under a minute once set up
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	cargo fmt --manifest-path services/proxy/engine/Cargo.toml --all -- --check
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/mypy $(SOURCES)
	$(PY) -m pytest -q -n 4 --dist loadfile -m "not root and not e2e and not kubernetes" $(PYTEST_ARGS)

test-rust: setup ## the engine's own tests and lints
	cargo clippy --manifest-path services/proxy/engine/Cargo.toml --all-targets --quiet -- -D warnings
	cargo test --manifest-path services/proxy/engine/Cargo.toml --quiet

fuzz: setup ## a minute of arbitrary bytes for the engine's parsers, from the corpus; FUZZ_SECONDS for more
	@scripts/fuzz $(FUZZ_SECONDS)

test-kubernetes: setup ## the control plane against kube-apiserver with etcd and against weft local; the first time builds kube-apiserver
	@scripts/kube-apiserver >/dev/null
	$(PY) -m pytest tests/kubernetes -m kubernetes $(PYTEST_ARGS)

test: check test-rust fuzz test-kubernetes ## every test there is, end to end included
	@scripts/h2spec
	$(PY) -m pytest -m "root or e2e" $(PYTEST_ARGS)

test-cluster: setup ## all of it on the cluster of KUBECONFIG=…, in real pods; see scripts/test-cluster for LOAD and others
	@scripts/test-cluster

images: ## container images of everything, by Docker or buildah; see scripts/images
	@scripts/images

demo: setup ## bring up the mesh with the bookshop, show it, take it down on Ctrl-C
	@scripts/demo

bench-control: setup ## measure the control plane under thousands of clients, and write build/bench/control.json
	@scripts/kube-apiserver >/dev/null
	$(PY) -m bench control $(BENCH_ARGS)

bench: setup ## measure, and write build/bench/*.json and the tables of docs/performance.md
	@$(UV) sync --frozen --all-packages --group bench --quiet
	$(PY) -m bench $(BENCH_ARGS)

clean: ## remove what make made
	rm -rf $(VENV) build dist services/proxy/engine/target .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name '*_pb2*.py*' -not -path './.venv/*' -delete
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
