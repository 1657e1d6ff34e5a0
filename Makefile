# The commands a person types are the ones CI runs. Each works as the first one on a fresh clone.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AGENT_VENV ?= .venv-agent
AGENT_READY := $(AGENT_VENV)/.ready
RUNTIMES_VENV ?= .venv-runtimes
RUNTIMES_READY := $(RUNTIMES_VENV)/.ready

.PHONY: setup quickstart test test-agent test-runtimes agent-pyz lint format bench clean

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

test: setup test-agent test-runtimes
	$(BIN)/python -m pytest

# The device agent as a board has it: nothing installed but the agent itself (and what tests it). What is slow runs once, in `test`.
test-agent: $(AGENT_READY)
	$(AGENT_VENV)/bin/python -m pytest -q -c evaluators/pyproject.toml -m "not slow" tests/evaluators

$(AGENT_READY): evaluators/pyproject.toml constraints.txt $(shell find evaluators/vitsearch_evaluators -name "*.py")
	$(PYTHON) -m venv $(AGENT_VENV)
	$(AGENT_VENV)/bin/python -m pip install --quiet --constraint constraints.txt hypothesis pytest
	$(AGENT_VENV)/bin/python -m pip install --quiet --force-reinstall --no-deps ./evaluators
	@touch $@

# OpenVINO and LiteRT, apart: every agent that a test starts would look at them too, and be seconds slower.
test-runtimes: $(RUNTIMES_READY)
	$(RUNTIMES_VENV)/bin/python -m pytest -q -c evaluators/pyproject.toml tests/evaluators/component/runtimes

$(RUNTIMES_READY): evaluators/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RUNTIMES_VENV)
	$(RUNTIMES_VENV)/bin/python -m pip install --quiet --constraint constraints.txt onnx pytest --editable "./evaluators[onnxruntime,openvino,litert]"
	@touch $@

# The agent as one file for a board: python3 vitsearch-agent.pyz serve --state ~/vitsearch-state
agent-pyz:
	$(PYTHON) tools/make_agent_pyz.py vitsearch-agent.pyz

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin --no-tips --target=3.6- --violations evaluators/vitsearch_evaluators

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python benchmarks/driver_cost.py

clean:
	rm -rf $(VENV) $(AGENT_VENV) $(RUNTIMES_VENV) vitsearch-agent.pyz
