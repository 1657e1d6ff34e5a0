# The commands a person types are the ones CI runs. Each works as the first one on a fresh clone.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AGENT_VENV ?= .venv-agent
AGENT_READY := $(AGENT_VENV)/.ready

.PHONY: setup quickstart test test-agent lint format bench clean

setup: $(READY)

$(READY): pyproject.toml evaluators/pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "vitsearch needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ./evaluators --editable . --group dev
	@touch $@

quickstart: setup
	$(BIN)/vitsearch run spaces/quickstart.yaml
	$(BIN)/vitsearch front quickstart

test: setup test-agent
	$(BIN)/python -m pytest

# The device agent as a board has it: nothing installed but the agent itself (and pytest).
test-agent: $(AGENT_READY)
	$(AGENT_VENV)/bin/python -m pytest -q -c evaluators/pyproject.toml tests/evaluators

$(AGENT_READY): evaluators/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(AGENT_VENV)
	$(AGENT_VENV)/bin/python -m pip install --quiet --constraint constraints.txt pytest ./evaluators
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --no-tips --target=3.6- --violations evaluators/vitsearch_evaluators

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python benchmarks/driver_cost.py

clean:
	rm -rf $(VENV) $(AGENT_VENV)
