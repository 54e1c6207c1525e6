# Everything works from a fresh clone: each target makes .venv itself when it is not there.
# `make PYTHON=python3.12 demo` chooses another interpreter; `make CPU=1 demo` takes torch without CUDA, a fifth of the
# download, where the index has wheels that fit constraints.txt, else the usual ones.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INSTALL := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode -c constraints.txt
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-with-ray test-the-rest test-training test-networks-and-data test-services \
  test-long lint format docs bench clean

help: ## what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs the stack in seconds and keeps one copy of it for all environments of this machine.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "expflow needs Python 3.11 or newer as '$(PYTHON)' (make PYTHON=python3.12 ...); found: $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
# Compiled now, so that no first import pays for it, also where PYTHONDONTWRITEBYTECODE is set.
	@torch=; if [ -n "$(CPU)" ]; then \
	  if UV_HTTP_TIMEOUT=10 UV_HTTP_RETRIES=0 $(INSTALL) --dry-run --torch-backend=cpu torch torchvision 2>/dev/null; \
	  then torch=--torch-backend=cpu; else echo "no CPU-only torch fits constraints.txt here: taking the usual one" >&2; fi; \
	fi; $(INSTALL) $$torch -e '.[dev]'
	@$(BIN)/python -m compileall -q expflow
	@touch $@

demo: $(STAMP) ## sweep plain and residual networks of four depths over real digits, and answer the question
	@$(BIN)/expflow sweep experiments/resnet_depth.yaml

# Three parts at a time beside each other: sweeps wait for Ray most of the time.
WITH_RAY := tests/api tests/cli tests/sweep
TRAINING := tests/tasks tests/training
NETWORKS_AND_DATA := tests/architectures tests/data
# Real servers, clusters and browsers.
SERVICES := tests/browser tests/cluster tests/object_store tests/prometheus tests/tracking

test: $(STAMP) ## all tests that need no servers (PYTEST_ARGS="-k cli" for some of any)
ifeq ($(PYTEST_ARGS),)
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target test-with-ray test-the-rest test-training test-networks-and-data
else
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS)
endif

test-with-ray: $(STAMP)
	@$(BIN)/python -m pytest -q $(WITH_RAY)

test-training: $(STAMP)
	@$(BIN)/python -m pytest -q $(TRAINING)

test-networks-and-data: $(STAMP)
	@$(BIN)/python -m pytest -q $(NETWORKS_AND_DATA)

test-the-rest: $(STAMP)
	@$(BIN)/python -m pytest -q $(addprefix --ignore=,$(WITH_RAY) $(TRAINING) $(NETWORKS_AND_DATA) $(SERVICES)) tests

test-services: $(STAMP) ## tests against real clusters, servers and browsers, which they install and start
	@$(BIN)/python -m pytest -q $(SERVICES)

# What takes too long for every change: each reader of untrusted bytes over MUTATIONS inputs, and KILLS killed drivers.
MUTATIONS ?= 10000
KILLS ?= 20

test-long: $(STAMP) ## seeded fuzzing and kill sweeps, for an hour or so (MUTATIONS=10000 KILLS=20)
	@set -e; for script in tests/fuzz/test_*.py; do \
	  echo "== $$script"; $(BIN)/python -m $$(echo $${script%.py} | tr / .) $(MUTATIONS); done
	@echo "== killed drivers"; $(BIN)/python -m tests.faults.killed_sweeps --kills $(KILLS)
	@echo "== killed drivers of a search"; $(BIN)/python -m tests.faults.killed_searches --kills $(KILLS)
	@echo "== killed drivers, lost disks, a store that fails"; $(BIN)/python -m tests.object_store.stored_sweeps --sweeps $(KILLS)
	@echo "== the same on another S3 server"; $(BIN)/python -m tests.object_store.stored_sweeps --sweeps 4 --server moto
	@echo "== lost, added and cut-off nodes (as root)"; $(BIN)/python -m tests.cluster.node_sweeps

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## rewrite the code in the house style
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: $(STAMP) ## write the reference pages from the code
	@mkdir -p docs/reference
	@$(BIN)/python -m expflow.config.reference > docs/reference/experiment.md
	@$(BIN)/python -m expflow.config.reference site > docs/reference/site.md
	@$(BIN)/typer expflow.cli utils docs --name expflow --title "The expflow command" --output docs/reference/command.md

bench: $(STAMP) ## print every figure that we claim, each beside its peer
	@set -e; for script in benchmarks/*.py; do \
	  test -e "$$script" || { echo "no benchmarks yet"; break; }; \
	  echo "== $$script"; $(BIN)/python "$$script"; done

clean: ## remove the environment, caches and builds; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
