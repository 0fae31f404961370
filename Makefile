# From a fresh clone, with Python 3.11 to 3.13 on Linux, macOS or WSL:
#   make train       generate the demo data, train on Ray, track in MLflow
#   make sweep       search the demo's hyperparameters with Ray Tune and Optuna, a quarter of an hour on two cores
#   make cluster     a Ray head and an MLflow server on this machine, for `mrqm submit`    make cluster-down   ends them
#   make test        every test                make test-fast   those without Ray that take seconds
#   make check       style, types, layers, sizes   make install     only install
#   make starter     the detector of `model.init: starter` again, from generated scenes, half an hour
#   make docs        the documentation site, in build/docs/index.html; a warning is an error
# ARGS="train.epochs=5" goes to `mrqm train`, ARGS="-k boxes" to pytest.

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := python3 python3.13 python3.12 python3.11
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))
# -qq: pip has nothing to say but errors.
# Three processes of one thread each, as tests on Ray wait much; a file's tests share a process, and files go in the
# order of tests/conftest.py.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e

# What `make check` holds to the project's style of docstrings and its limits of sizes, besides tests.
SOURCES := mrqm pipelines tune cluster tools benchmarks docs

.PHONY: train sweep starter cluster cluster-down test test-fast check docs install
.DELETE_ON_ERROR:

train: install
	@$(BIN)/mrqm demo-data data/demo
	@$(BIN)/mrqm train -c configs/demo.yaml $(ARGS)

sweep: install
	@$(BIN)/mrqm demo-data data/demo-sweep --train 40 --val 16
	@$(BIN)/mrqm tune -c configs/demo.yaml --space tune/spaces/quick.yaml $(ARGS)

starter: install
	@$(BIN)/mrqm demo-data data/starter --train 500 --val 24 --size 512 512 --seed 7
	@$(BIN)/mrqm train -c configs/starter.yaml
	@$(BIN)/python tools/pack_starter.py runs/starter

cluster: install
	@$(BIN)/mrqm cluster up

cluster-down: install
	@$(BIN)/mrqm cluster down

test: $(VENV)/dev.stamp
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/dev.stamp
	$(PYTEST) -m "not ray and not slow" $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docstrings.py $(SOURCES)
	$(BIN)/python tools/check_sizes.py $(SOURCES)

docs: $(VENV)/dev.stamp
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

install: $(VENV)/run.stamp

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), which takes some minutes"
	@$(INSTALL) '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) what tests need, which takes some minutes"
	@$(INSTALL) '.[demo,dev,docs,export]'
	@touch $@ $(VENV)/run.stamp

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
