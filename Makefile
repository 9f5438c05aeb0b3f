# Every command works in a fresh clone: the first one makes .venv and installs from the lock.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-all coverage mutants chaos lint types check generate lock clean

help: ## list what you can do here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## make the virtual environment and install everything from requirements.lock

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock pip setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[worker,onnx,s3,dev]'
	@touch $@

$(VENV)/.demo-ready: $(READY) examples/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement examples/requirements.txt
	@touch $@

demo: $(VENV)/.demo-ready ## prune a real model over HTTP and show before/after (ARGS="--model ... --dataset ...")
	$(BIN)/python -m examples.demo $(ARGS)

serve: $(READY) ## run the whole service on this machine: API, worker, SQLite, no server to install
	$(BIN)/prunery serve

# Two test processes share the cores: more threads each would only get in each other's way.
test test-all coverage mutants chaos: export OMP_NUM_THREADS = 1

test: $(READY) ## the test suite: real databases, brokers and processes; under 10 minutes on 2 cores
	$(BIN)/python -m pytest $(ARGS)

test-all: $(READY) ## the same with the long tests
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

coverage: $(READY) ## the suite measured, with the processes that it starts; fails where the service is not covered whole
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --include='app/*,core/*,worker/*' --fail-under=100
	$(BIN)/python -m coverage report --include='pruning/*' --fail-under=95

mutants: $(READY) ## change the code of jobs and of checked files at random places; fails when the tests notice too few
	$(BIN)/python -m tests.mutants

chaos: $(READY) ## the long tests of failures: 150 kills among 500 jobs, outages at full length, wrong clocks
	$(BIN)/python -m pytest -m slow -n0 -rP tests/chaos/test_kill_workers.py tests/chaos/test_clock.py
	PRUNERY_TEST_OUTAGE_SECONDS=60 $(BIN)/python -m pytest -m slow -n0 -rP tests/chaos/test_outages.py -k redis
	PRUNERY_TEST_OUTAGE_SECONDS=30 $(BIN)/python -m pytest -m slow -n0 -rP tests/chaos/test_outages.py -k postgresql

lint: $(READY) ## style, import rules, the compose files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.s3.yml

types: $(READY) ## mypy, strict
	$(BIN)/mypy

check: lint types test ## what the gate runs

generate: $(READY) ## rewrite what is made from the code: method catalogue, OpenAPI, settings table
	$(BIN)/python -m pruning.publish_catalogue --write
	$(BIN)/python -m app.publish_openapi --write
	$(BIN)/python -m core.settings --write

lock: $(READY) ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-emit-options \
		--no-header --no-annotate --all-extras --upgrade --output-file requirements.lock pyproject.toml
	@sed -i 's/^\([a-z0-9._-]*==[^+ ]*\)+[a-z0-9.]*/\1/' requirements.lock # a local build tag such as +cpu is the machine's choice

clean: ## remove the virtual environment, caches and the demo's output
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
