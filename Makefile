# The verbs of ofevents. `make` alone prints them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run fmt lint types test servers conformance e2e cluster soak bench crds manifests image lock all clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9_-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV) with the locked dependencies; about a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/.ready ## make .venv with the locked dependencies

run: setup ## events flowing in a minute: the quickstart on an embedded bus
	@exec $(BIN)/ofevents run -f deploy/samples/quickstart \
	  --with "$(BIN)/python deploy/samples/quickstart/charge.py" \
	  --with "$(BIN)/python deploy/samples/quickstart/audit.py" $(ARGS)

fmt: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## ruff, import-linter, codespell
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell

types: setup ## mypy --strict
	$(BIN)/mypy

test: setup ## unit and house tests; no server but the embedded bus
	$(PYTEST) tests/unit tests/house $(ARGS)

servers: setup ## fetch the real servers of the tests into the cache
	$(BIN)/python -m tests.servers.fetch $(ARGS)

conformance: setup ## the driver suites against real servers
	$(PYTEST) tests/conformance $(ARGS)

e2e: setup ## the whole product against real servers
	$(PYTEST) tests/e2e $(ARGS)

cluster: setup ## what needs Pods, on a real node (after: make servers ARGS=--cluster)
	$(BIN)/python -m tests.servers.kube_namespace $(PYTEST) tests/cluster -m cluster $(ARGS)

soak: setup ## half an hour of load and faults (ARGS="--soak-minutes 2 --seed 1")
	$(PYTEST) tests/e2e/faults tests/e2e/controller -m soak $(ARGS)

bench: setup ## the side-by-side benchmarks (ARGS="--json FILE --stage NAME")
	$(BIN)/python -m bench $(ARGS)

crds: setup ## regenerate crds/ from ofevents/api
	$(BIN)/ofevents crds --write crds

manifests: setup ## regenerate deploy/kustomize and deploy/helm from ofevents/install
	$(BIN)/python -m ofevents.install deploy

image: ## build the container image with docker or buildah (IMAGE=name:tag)
	deploy/build-image.sh $(ARGS)

lock: setup ## rewrite constraints.txt from what is installed
	$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools --exclude wheel > constraints.txt

all: lint types test conformance e2e ## everything that CI runs

clean: ## remove .venv and what tests left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
