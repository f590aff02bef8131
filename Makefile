# Two commands are enough: `make run` and `make test`. Each prepares the environment first and skips what is done.
# Every variable can be overridden: make run PYTHON=python3.12 VENV=/tmp/venv
SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

# An interpreter that exists is not yet one that starts (version managers leave stand-ins), hence -c.
PYTHON ?= $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)
VENV ?= .venv
EXTRAS ?= test,team
ARGS ?=
PORT ?= 5000
RUNS ?= runs
# Most of a test's time is a process that starts: two at once keep two cores busy.
WORKERS ?= 2

BIN := $(VENV)/bin
# A second call skips the installation while the files that decide it, the extras and the folder are the same.
KEY := $(shell { cat pyproject.toml constraints.txt; printf '%s' '$(CURDIR) $(EXTRAS)'; } | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.fade-setup-$(KEY)
PRETRAIN_STAMP := $(VENV)/.fade-pretrain-$(KEY)
# --quiet hides the progress, never an error. Without --upgrade pip leaves a torch that fits alone.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt
# The environment must not lend the tools someone else's packages or settings, nor have them compile everything at every start.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test long-test failures team team-test unit lint format ui pretrain startup clean

help: ## list the targets (default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n  variables: PYTHON=%s VENV=%s EXTRAS=%s RUNS=%s PORT=%s WORKERS=%s ARGS=%s\n' '$(PYTHON)' '$(VENV)' '$(EXTRAS)' '$(RUNS)' '$(PORT)' '$(WORKERS)' '$(ARGS)'

setup: $(STAMP) ## make .venv and install everything under constraints.txt

run: $(STAMP) ## the main job: erase a concept, show the evidence (ARGS="--target panda")
	$(BIN)/fade run $(ARGS)

test: $(STAMP) ## all tests (ARGS="-k mesh")
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(ARGS)

long-test: $(STAMP) ## whole jobs of minutes each: releases, requests, the scheduler (not part of `make test`)
	$(BIN)/python -m pytest tests -m long -n $(WORKERS) --dist loadscope $(ARGS)

failures: $(STAMP) ## runs that are stopped, starved of disk, or fed with bad input (long; not part of `make test`)
	FUZZ=1000 $(BIN)/python -m pytest tests/unit/fuzz $(ARGS)
	$(BIN)/python -m pytest tests/e2e/test_failures.py tests/e2e/test_pauses.py -m failures $(ARGS)

team: $(STAMP) ## PostgreSQL, S3, MLflow, Prefect and a worker on this machine, with users; Ctrl-C stops them (docs/team.md)
	$(BIN)/python -m flows.local_stack.stack --folder "$(RUNS)/team" $(ARGS)

team-test: $(STAMP) ## runs against those servers: killed and started again, a second clone, a worker (long; not part of `make test`)
	$(BIN)/python -m pytest tests/e2e/test_team.py -m team $(ARGS)

unit: $(STAMP) ## the unit tests alone
	$(BIN)/python -m pytest tests/unit -n $(WORKERS) --dist loadscope $(ARGS)

lint: $(STAMP) ## ruff (rules and layout) and mypy --strict on fade/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff lay out the code and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(STAMP) ## MLflow's pages over this folder's runs, on 127.0.0.1:PORT, with a password of its own; Ctrl-C stops them
	$(BIN)/python -m flows.local_stack.ui --runs "$(RUNS)" --port $(PORT) $(ARGS)

pretrain: $(PRETRAIN_STAMP) ## rebuild the embedded world: pictures, base, judge (about two and a half hours, resumes)
	$(BIN)/fade pretrain $(ARGS)

startup: $(STAMP) ## measure how long `fade --help` and each tool's import take
	$(BIN)/python bench/startup.py $(ARGS)

clean: ## remove the environment and the tools' caches; runs/ and data/ stay
	@test ! -d $(VENV) || test -f $(VENV)/pyvenv.cfg || { echo "clean: $(VENV) is no Python environment. Next: remove it by hand." >&2; exit 1; }
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "setup: '$(PYTHON)' is missing or older than Python 3.11." \
	    "Next: install Python 3.11 or later, or name one: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "setup: making $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "setup: $(VENV) could not be made. Next: install Python's venv module (Debian: python3-venv), or name another folder: VENV=..." >&2; exit 1; }; }
	@echo "setup: installing into $(VENV) under constraints.txt (the first time takes some minutes)"
	@$(INSTALL) --editable '.[$(EXTRAS)]'
	@$(BIN)/python -m flows.service.setup "$(RUNS)" 2>/dev/null || echo "setup: $(RUNS) could not be prepared; the first run will say why."
	@rm -f $(VENV)/.fade-setup-* && touch $@

$(PRETRAIN_STAMP): $(STAMP)
	@echo "setup: installing what the pictures are drawn with"
	@$(INSTALL) --editable '.[$(EXTRAS),pretrain]'
	@rm -f $(VENV)/.fade-pretrain-* && touch $@
