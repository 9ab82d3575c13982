# The only entrance. `make` alone prints what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV  := .venv
PY    := $(VENV)/bin/python
PROTO := $(wildcard proto/tally/*/v1/*.proto)
# grpcio-tools has protoc within. Generated code needs a protobuf at least as new as its protoc (this one: 6.31.1), and at
# most one major version newer; so that of the oldest major that is supported serves most users of the client. Protobuf 5
# went out of support in March 2026, and 6 does a year later. Releases from 1.82 on bring protoc 7.
PROTOC := 1.80.0
TIMES ?= 10
CHECKS := check-format check-lint check-types check-imports check-protos
PYTHONS := python3 python3.13 python3.12 python3.11

.PHONY: docs help setup run test test-long test-system test-tls check exact faults proto demo bench cluster regions load k8s wheel lock clean $(CHECKS)

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev $(VENV)/.proto ## Set up everything that development needs

run: $(VENV)/.run $(VENV)/.proto ## Run every service in one process on embedded Postgres and Valkey
	@exec $(PY) -m services all

# Several workers, each with servers of its own. A file stays with one worker, for its tests share a stack; the files keep
# their order, as the long ones come first and the short ones then fill up whoever is done.
test: setup ## Run the tests: no root, nothing from Debian
	@$(PY) -m pytest -m "not system and not long" -n 3 --dist loadfile --no-loadscope-reorder

test-long: setup ## Run the tests that start whole clusters and break them, and search large spaces
	@$(PY) -m pytest -m long -n 2 --dist loadfile --no-loadscope-reorder

test-system: setup ## Run the tests that need root, or a Debian package (prometheus)
	@$(PY) -m pytest -m system

test-tls: setup ## Run the end-to-end tests once more, with TLS and roles in everything that they start
	@TLS=1 $(PY) -m pytest -m "not system" -n 2 --dist loadfile --no-loadscope-reorder tests/e2e

# All at once, each with its output in one piece. All of them run to the end, and the targets that failed are named.
check: setup ## Format, lint, types, import rules, protos
	@$(MAKE) --no-print-directory --jobs --keep-going --output-sync=target $(CHECKS)

check-format:
	@$(VENV)/bin/ruff format --check .

check-lint:
	@$(VENV)/bin/ruff check .

check-types:
	@$(VENV)/bin/mypy

check-imports:
	@$(VENV)/bin/lint-imports --no-logo

check-protos:
	@$(VENV)/bin/buf lint proto

exact: setup ## Run the exactness tests TIMES times over (default 10)
	@for n in $$(seq 1 $(TIMES)); do \
	  echo "exactness, round $$n of $(TIMES)"; $(PY) -m pytest -q -m exact -n 3 || exit 1; done

# What is given on the command line, as MINUTES=30, is in the environment of what make starts.
faults: setup ## Break everything under load and check every count; MINUTES=30 random combinations, SEED=7 repeats one, TLS=1 with roles
	@$(PY) -m tests.fault.table

proto: $(VENV)/.proto ## Generate the Python code of the protos

demo: $(VENV)/.run $(VENV)/.proto ## Replay a real data set on a throw-away stack and check every count
	@$(PY) -m loadtests.demo

bench: setup ## Measure Tally beside Valkey and Postgres; FULL=1 for all of it, ONLY=a,b for some
	@FULL=$(FULL) ONLY=$(ONLY) GRPC_ENABLE_FORK_SUPPORT=0 $(PY) -m loadtests.bench

cluster: setup ## Run every service in processes of its own behind Envoy, on embedded stores
	@exec $(VENV)/bin/tally cluster

regions: $(VENV)/.run $(VENV)/.proto ## Run two complete regions on this machine that replicate to each other
	@exec $(VENV)/bin/tally regions up

load: setup ## Use Tally for 20 s with locust and check what it answers; SCENARIO=find, index, sync or backfill for others
	@$(PY) -m loadtests.load --scenario $(or $(SCENARIO),count)

docs: setup ## Renew what is made from the code: settings, table of services, k8s/base/services, metrics, dashboards, alerts, the client
	@$(PY) -m services.settings_table > docs/settings.md
	@$(PY) -m services.services_table > docs/services.md
	@$(PY) -m services.kustomize
	@$(PY) -m services.monitoring
	@$(PY) -m services.client_namespaces
	@$(PY) -m services.client_stub

k8s: setup ## Render and validate the Kubernetes manifests
	@$(PY) -m pytest -q tests/k8s

wheel: setup ## Build the client's wheel into dist/
	@$(PY) -m pip wheel -q --no-deps --no-build-isolation -w dist libs/tally && ls dist

lock: $(VENV)/.dev ## Renew the lock files from pyproject.toml
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header pyproject.toml -o requirements.lock
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header -c requirements.lock pyproject.toml --extra youtube -o requirements-youtube.lock
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header -c requirements-youtube.lock pyproject.toml --extra backfill -o requirements-backfill.lock
	@$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header -c requirements-youtube.lock -c requirements-backfill.lock pyproject.toml --group dev -o requirements-dev.lock
	@echo 'grpcio-tools==$(PROTOC)' | $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --no-deps \
	  --generate-hashes --no-emit-index-url --no-header - -o requirements-proto.lock

clean: ## Remove what was made, but not the data in .tally/
	@rm -rf $(VENV) dist build *.egg-info libs/tally/build libs/tally/*.egg-info .*_cache .hypothesis
	@find libs/tally/tally -name '*_pb2*' -delete

# Takes the first Python that is new enough, not too new, and has its venv module; says what is missing.
$(VENV)/.made:
	@for p in $(PYTHONS); do \
	  command -v $$p >/dev/null 2>&1 || continue; found="$$found $$p"; \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; fits=$$p; \
	  $$p -c 'import venv, ensurepip' 2>/dev/null || continue; \
	  echo "[1/3] making $(VENV) with $$($$p --version)"; \
	  $$p -m venv --clear $(VENV) && touch $@; exit; \
	done; \
	if [ -n "$$fits" ]; then v=$$($$fits -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "tally: $$fits has no venv module. Install it: apt-get install python$$v-venv (Debian, Ubuntu)"; \
	elif [ -n "$$found" ]; then echo "tally: Python 3.11, 3.12 or 3.13 is needed, and only this was found:"; \
	  for p in $$found; do echo "  $$p: $$($$p --version 2>&1)"; done; \
	  echo "Install one: apt-get install python3.11 python3.11-venv (Debian 12), dnf install python3.12 (Fedora)"; \
	else echo "tally: python3 is needed. Install it:" \
	  "apt-get install python3 python3-venv (Debian, Ubuntu), dnf install python3.12 (Fedora)"; fi >&2; exit 1

define INSTALL
@echo "[2/3] installing what is pinned in $(1)"
@{ $(PY) -m pip install --disable-pip-version-check --require-hashes -r $(1); echo $$? > $(VENV)/.status; } \
  | grep -v -E '^(Looking in|Requirement already|Ignoring)'; exit $$(cat $(VENV)/.status)
@$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e . -e libs/tally
@touch $@
endef

$(VENV)/.run: $(VENV)/.made requirements.lock pyproject.toml libs/tally/pyproject.toml
	$(call INSTALL,requirements.lock)

$(VENV)/.dev: $(VENV)/.made requirements-dev.lock pyproject.toml libs/tally/pyproject.toml
	$(call INSTALL,requirements-dev.lock)
	@touch $(VENV)/.run

# In a folder of its own, as it would hold the protobuf of the services at 6.
$(VENV)/.protoc: $(VENV)/.made requirements-proto.lock
	@rm -rf $(VENV)/protoc
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes --no-deps --target $(VENV)/protoc \
	  -r requirements-proto.lock
	@touch $@

# The types of the stubs come from a plugin that only development has.
$(VENV)/.proto: $(VENV)/.run $(VENV)/.protoc $(PROTO)
	@echo "[3/3] generating code from the protos"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONPATH=$(VENV)/protoc $(PY) -m grpc_tools.protoc -I proto --python_out=libs/tally \
	  --pyi_out=libs/tally --grpc_python_out=libs/tally \
	  $$(test -x $(VENV)/bin/protoc-gen-mypy_grpc && echo --mypy_grpc_out=quiet:libs/tally) $(PROTO)
	@touch $@
