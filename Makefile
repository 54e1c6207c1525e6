# Everything works from a fresh clone: each target makes .venv itself when it is not there.
# `make PYTHON=python3.12 demo` chooses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-with-ray test-the-rest lint format docs bench clean

help: ## what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs the stack in seconds and keeps one copy of it for all environments of this machine.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "expflow needs Python 3.11 or newer as '$(PYTHON)' (make PYTHON=python3.12 ...); found: $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
# compiled now, so that no first import pays for it, also where PYTHONDONTWRITEBYTECODE is set
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## sweep plain and residual networks of four depths over real digits, and answer the question
	@$(BIN)/expflow sweep experiments/resnet_depth.yaml

# Two halves of about equal length, beside each other: sweeps wait for Ray most of the time.
WITH_RAY := tests/api tests/cli tests/cluster tests/sweep tests/tracking

test: $(STAMP) ## all tests (PYTEST_ARGS="-k cli" for some of them)
ifeq ($(PYTEST_ARGS),)
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target test-with-ray test-the-rest
else
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS)
endif

test-with-ray: $(STAMP)
	@$(BIN)/python -m pytest -q $(WITH_RAY)

test-the-rest: $(STAMP)
	@$(BIN)/python -m pytest -q $(WITH_RAY:%=--ignore=%) tests

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
	@$(BIN)/typer expflow.cli utils docs --name expflow --title "The expflow command" --output docs/reference/command.md

bench: $(STAMP) ## print every figure that we claim, each beside its peer
	@set -e; for script in benchmarks/*.py; do \
	  test -e "$$script" || { echo "no benchmarks yet"; break; }; \
	  echo "== $$script"; $(BIN)/python "$$script"; done

clean: ## remove the environment, caches and builds; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
