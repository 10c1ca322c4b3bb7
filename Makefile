# `make demo` and `make test` do all the set-up; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo check test test-slow clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(STAMP) ## make .venv and install the library with its tests and tools

# The constraint file matters: without it pip takes a CUDA build of several GB.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## train on made data, explain, and write runs/demo/report.html
	$(BIN)/fli2moe demo

check: $(STAMP) ## format, lint, types, layers
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread for each of the two test processes: threads of both would only get in their own way.
test test-slow: export OMP_NUM_THREADS = 1

test: check ## the checks, and every test but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(STAMP) ## trainings, kills, clusters, statistics
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

clean: ## remove what the targets made
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
