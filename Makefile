.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help: ## This menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make .venv with everything in it, argosy too (does nothing when it is up to date)

$(VENV)/.ready: pyproject.toml
	bash tools/setup.sh $(VENV)

demo: setup ## Start Argosy, create one database of each kind, query them, show how to connect
	bash tools/demo.sh

check: setup ## The quick half: format, lint, types, import layers
	$(VENV)/bin/ruff format --check src tests bench
	$(VENV)/bin/ruff check src tests bench
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: check ## Everything CI runs, against real engines
	bash tools/test.sh

test-long: setup ## The long walks: every step of every workflow, ten moments of a log, every fault of every engine's backups (hours)
	ARGOSY_TEST_LONG=1 bash tools/test.sh --timeout 3600 tests/chaos $(wildcard tests/engines/test_*_backups.py) tests/engines/test_dumps_of_strangers.py $(wildcard tests/e2e/test_backup*.py) tests/e2e/test_full_volume.py tests/e2e/test_point_in_time.py tests/e2e/test_whole_life_on_machines.py tests/e2e/test_tables_of_a_newer_release.py tests/platforms/test_openstack_platform.py tests/cli/test_dumps.py

test-postgresql: setup ## The API's tests with PostgreSQL as the metadata database (CI runs those of streams, quotas and of two of each on it)
	ARGOSY_TEST_METADATA=postgresql bash tools/test.sh tests/api

fuzz: setup ## Send a hundred thousand odd requests to a live server and hold the answers against the OpenAPI document
	ARGOSY_FUZZ=1000 $(PY) -m pytest -q -s --timeout 7200 tests/api/test_fuzz.py

tempest: setup ## Run OpenStack's own scenarios for Trove against Argosy (ten minutes; not part of `make test`)
	bash tools/tempest.sh

test-openstack: setup ## Test on a real OpenStack, brought up when it is not there (docs/openstack-testing.md; half an hour, not part of `make test`)
	bash tools/test-openstack.sh

bench: setup ## Measure, as ratios against a rival in the same run; writes bench/RESULTS.md
	$(PY) -m bench

.PHONY: help setup demo check test test-long test-postgresql test-openstack bench fuzz tempest
