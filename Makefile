# Everything runs in .venv, made from the first python3 (>= 3.11) found and the hashed lock in requirements/.
# A second run installs nothing; a changed lock or pyproject.toml installs again.
#
# Tests of servers run on what TEST_POSTGRES_URL, TEST_MYSQL_URL, TEST_REDIS_URL and TEST_REDIS_CLUSTER_URL name, else
# on private servers that they start and stop themselves; the first lines of a run say which. REQUIRE_ENGINES=all
# (or names with commas between) ends a run that would leave one out. More than one smoke test per server is marked
# `servers`: `make test` leaves that out. Other frameworks read what was written for them from .venv-bench; where it is
# not made those tests are skipped, and `all` wants them too.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$name -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$name; break; fi; done),python3)
JOBS ?= 2
UPGRADE ?=
FRESH ?=

PY := .venv/bin/python
UV := .venv/bin/uv
PYTEST := $(PY) -m pytest
SPREAD := -n $(JOBS) --dist worksteal
BASE := .venv/.base-installed
DEV := .venv/.dev-installed
BENCH_PY := .venv-bench/bin/python
BENCH := .venv-bench/.installed
LIBRARIES = $(if $(filter all,$(REQUIRE_ENGINES)),$(BENCH))

# how much of the full counts a run does; `make stress` always does all of them
SCALE_TEST := $(or $(UNIFIED_STORAGE_SCALE),0.02)
SCALE_CHECK := $(or $(UNIFIED_STORAGE_SCALE),0.1)

.PHONY: help demo test check after-test contract-test model static stress faults format format-check lint types floors lock bench bench-quick bench-test bridges-test services clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(if $(wildcard $(DEV)),$(DEV),$(BASE)) ## migrate the sample sessions to SQLite and show them
	@$(PY) examples/demo.py

test: $(DEV) $(LIBRARIES) ## memory, SQLite, and a smoke of every server found (under 5 minutes)
	UNIFIED_STORAGE_SCALE=$(SCALE_TEST) $(PYTEST) $(SPREAD) -m "not stress and not servers" $(ARGS)

check: static $(BENCH) ## format, lint, types, floors, and every test on every engine with a tenth of the full counts
	UNIFIED_STORAGE_SCALE=$(SCALE_CHECK) $(PYTEST) $(SPREAD) $(ARGS)

after-test: static $(BENCH) # what `make check` does and `make test` has not done yet
	UNIFIED_STORAGE_SCALE=$(SCALE_CHECK) $(PYTEST) $(SPREAD) -m "stress or servers" $(ARGS)

stress: $(DEV) ## the full counts; goes on where it stopped (FRESH=1 begins again), report in .stress/
	$(if $(FRESH),rm -rf .stress)
	UNIFIED_STORAGE_SCALE=1 $(PYTEST) -p tests.stress_memory -m "stress or scaled" $(ARGS)

faults: ## of that, the trials of the live migration, whose processes are killed and stopped
	@$(MAKE) stress ARGS="tests/migration $(ARGS)"

contract-test: $(DEV) ## replay the recorded answers of AgentOS against the HTTP service
	$(PYTEST) tests/session_api/test_contract.py $(ARGS)

model: $(PY) ## walk the model of the live migration through every interleaving (minutes; ARGS=--quick for the short rows)
	$(PY) -m migration_model $(ARGS)

static: format-check lint types floors

format: $(DEV) ## rewrite the code in the house format
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

format-check: $(DEV)
	$(PY) -m ruff format --check

lint: $(DEV) ## ruff
	$(PY) -m ruff check

types: $(DEV) ## mypy --strict
	$(PY) -m mypy --strict

floors: $(DEV) ## imports go down the floors (import-linter)
	.venv/bin/lint-imports --no-logo

COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

lock: | $(UV) ## resolve the dependencies again (UPGRADE=--upgrade for newer versions)
	$(COMPILE) --extra postgres --extra mysql --extra redis --extra api --extra telemetry --extra crypto --group dev \
		--output-file requirements/lock.txt
	$(COMPILE) --group build --constraints requirements/lock.txt --output-file requirements/base.txt
	$(COMPILE) --extra postgres --extra mysql --extra redis --extra api --extra adk --extra openai-agents --extra key-value \
		--group bench --constraints requirements/base.txt --output-file requirements/bench.txt
	@! grep -nE '://|^-|file:' requirements/*.txt || { echo "an address got into the lock" >&2; exit 1; }

bench: $(BENCH) ## measure beside the drivers and the peers (about an hour; goes on where it stopped, FRESH=1 begins again)
	$(BENCH_PY) -m benchmarks $(if $(FRESH),--fresh) $(ARGS)

bench-quick: $(BENCH) ## the same with small counts (minutes)
	$(BENCH_PY) -m benchmarks --quick $(if $(FRESH),--fresh) $(ARGS)

bench-test: $(BENCH) ## the tests of the benchmarks where the peers are installed
	$(BENCH_PY) -m pytest tests/benchmarks $(ARGS)

bridges-test: $(BENCH) ## the tests of the bridges, against the real frameworks
	UNIFIED_STORAGE_SCALE=$(SCALE_CHECK) $(BENCH_PY) -m pytest $(SPREAD) tests/session_bridges $(ARGS)

services: $(DEV) ## start private servers that stay until `scripts/services stop`; more: scripts/services --help
	@scripts/services start

clean: ## remove caches and build results (.venv, .venv-bench, .stress and .services stay)
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# --- the environment -------------------------------------------------------------------------------------------

TOO_OLD := "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 ..."
NO_VENV := "python3 cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"

$(PY):
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo $(TOO_OLD) >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo $(NO_VENV) >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo $(NO_VENV) >&2; exit 1; }

$(BENCH_PY): | $(PY)
	@$(PY) -m venv .venv-bench

# uv takes seconds where pip takes a minute; where it cannot be had, pip reads the same file
PIP = $(PY) -m pip install --quiet --disable-pip-version-check
INSTALL = python="$(firstword $(filter %/python,$|))"; \
	if [ -x $(UV) ] || $(PIP) uv; then installer="$(UV) pip install --quiet --python $$python"; \
	else installer="$$python -m pip install --quiet --disable-pip-version-check"; \
	echo "uv cannot be installed here; pip does it, more slowly" >&2; fi; \
	echo "installing $< into $(@D)"; \
	$$installer --require-hashes -r $<; \
	$$installer --no-deps --no-build-isolation -e .; \
	touch $@

$(UV): | $(PY)
	@$(PIP) uv

$(BASE): requirements/base.txt pyproject.toml | $(PY)
	@$(INSTALL)

$(DEV): requirements/lock.txt pyproject.toml | $(PY)
	@$(INSTALL)

$(BENCH): requirements/bench.txt pyproject.toml | $(BENCH_PY)
	@$(INSTALL)
