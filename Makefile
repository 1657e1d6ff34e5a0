# The commands a person types are the ones CI runs. Each works as the first one on a fresh clone.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
AGENT_VENV ?= .venv-agent
AGENT_READY := $(AGENT_VENV)/.ready
RUNTIMES_VENV ?= .venv-runtimes
RUNTIMES_READY := $(RUNTIMES_VENV)/.ready
LOWEST_VENV ?= .venv-lowest
LOWEST_READY := $(LOWEST_VENV)/.ready
# The environment that writes TFLite files: tests look for it here. For your own commands export it, or they look in ~/.cache.
export VITSEARCH_CONVERTERS ?= $(CURDIR)/.venv-converters
# An emulated aarch64 board (tools/emulated_board.py): what it is made of is downloaded once.
export VITSEARCH_BOARD ?= $(CURDIR)/.board
CONVERTER := $(VITSEARCH_CONVERTERS)/litert/installed.json
# The version of every package of these environments: `make lock`.
LOCK := constraints/vitsearch.txt
LATEST_VENV ?= .venv-latest
LATEST_READY := $(LATEST_VENV)/.ready
# One worker more than processors, because tests also wait for disks and processes; those of the agent do so more.
PROCESSORS := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell expr $(PROCESSORS) + 1)
AGENT_WORKERS ?= $(shell expr $(PROCESSORS) + 3)
# Which tests: all of them, unless a target says so (marks: pyproject.toml). More options of pytest: make test ARGS=-x
MARK ?=
ARGS ?=
# Files stay together, for their fixtures; the order is that of tests/support/schedule.py. A worker that crashes fails
# the suite: pytest-xdist (3.8) would wait for ever for what is left of the file that it had.
PYTEST = -m pytest -q -rfEs --durations=20 --dist loadfile --no-loadscope-reorder --max-worker-restart=0 -m "$(MARK)" $(ARGS)
# Its own settings; the names of tests as in the other environments.
AGENT_INI := -c evaluators/pyproject.toml --rootdir=.

# Makes an environment: $(call new-environment,FOLDER)
define new-environment
@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; vitsearch needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
@echo "$(1): a new environment"
@$(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK) --upgrade pip
endef

# Installs into one, in the versions of the lock: $(call locked-install,FOLDER) PACKAGES
locked-install = $(1)/bin/python -m pip install --quiet --constraint $(LOCK) --build-constraint $(LOCK)

.PHONY: setup quickstart test test-fast test-changed test-long test-all test-search test-agent test-runtimes test-lowest test-latest \
	test-board setup-test setup-long lock agent-pyz wheels lint format docs bench clean

setup: $(READY)

$(READY): pyproject.toml evaluators/pyproject.toml $(LOCK)
	$(call new-environment,$(VENV))
	@echo "$(VENV): installing vitsearch with torch, its runtimes and what tests it, from the package index (some minutes)"
	@$(call locked-install,$(VENV)) --editable ./evaluators --editable ".[openvino,litert,executorch,ncnn]" --group dev
	@! test -e .git || $(BIN)/pre-commit install >/dev/null  # each commit passes the linters
	@echo "$(VENV): ready"
	@touch $@

quickstart: setup
	$(BIN)/vitsearch run spaces/quickstart.yaml
	$(BIN)/vitsearch front quickstart

# The unit tests of both packages: no training, no agent, no real device.
test-fast: MARK := not long
test-fast: setup
	$(BIN)/python $(PYTEST) -n $(WORKERS) tests/search/unit tests/evaluators/unit

# The tests in the place of what changed, and those that import it: since the last commit, or make test-changed SINCE=main
test-changed: MARK := not long
test-changed: setup
	@files=$$($(BIN)/python tests/support/changed.py $(SINCE)) || exit; test -z "$$files" || $(BIN)/python $(PYTEST) -n $(WORKERS) $$files

# What a change needs: unit and component tests, and one small search from its start to a verified bundle.
test:
	$(MAKE) test-all MARK="not long"

# All other tests: whole searches, killed processes, clusters, every variant and runtime.
test-long: setup-long
	$(MAKE) test-all MARK=long

# Each test in one environment. The list at the end names what was skipped in all of them.
test-all: test-runtimes test-search
	$(BIN)/python tests/support/outcomes.py $(VENV)/outcomes.json $(AGENT_VENV)/outcomes.json $(RUNTIMES_VENV)/outcomes.json

# Also the agent's ExecuTorch, which needs torch: no other environment has it.
test-search: setup
	$(BIN)/python $(PYTEST) -n $(WORKERS) --outcomes=$(VENV)/outcomes.json tests/search tests/evaluators/component/runtimes/test_executorch.py tests/evaluators/component/runtimes/test_ncnn.py

# What `make test` needs beside the libraries: the agent's environments, a browser, and ssh-keygen.
setup-test: $(READY) $(AGENT_READY) $(RUNTIMES_READY)
	@echo "looking for Chromium and ssh-keygen, which some tests need"
	@tools/install_chromium.sh
	@tools/install_ssh_keygen.sh

# And the long tests: the converters of LiteRT (2 GB, some minutes) and for Qualcomm.
setup-long: setup-test $(CONVERTER)

$(CONVERTER): $(READY) constraints/litert.txt constraints/qnn.txt
	@echo "$(VITSEARCH_CONVERTERS): installing the converters of LiteRT (2 GB, some minutes) and for Qualcomm (0.5 GB)"
	@$(if $(filter constraints/%,$?),rm -f $(VITSEARCH_CONVERTERS)/*/installed.json)
	@PIP_CONSTRAINT=constraints/litert.txt $(BIN)/vitsearch install-converter litert
	@PIP_CONSTRAINT=constraints/qnn.txt $(BIN)/vitsearch install-converter qnn
	@touch $@

# The device agent as a device has it: nothing installed but the agent itself (and what tests it).
test-agent: $(AGENT_READY)
	$(AGENT_VENV)/bin/python $(PYTEST) -n $(AGENT_WORKERS) $(AGENT_INI) --outcomes=$(AGENT_VENV)/outcomes.json tests/evaluators

$(AGENT_READY): evaluators/pyproject.toml $(LOCK) $(shell find evaluators/vitsearch_agent -name "*.py")
	$(call new-environment,$(AGENT_VENV))
	@echo "$(AGENT_VENV): installing the agent alone, as a device has it, and what tests it"
	@$(call locked-install,$(AGENT_VENV)) --group evaluators/pyproject.toml:test
	@$(call locked-install,$(AGENT_VENV)) --force-reinstall --no-deps ./evaluators
	@touch $@

# What `test-agent` skipped for want of onnx, onnxruntime (with the NPU of Qualcomm), OpenVINO, LiteRT or Pillow.
test-runtimes: $(RUNTIMES_READY) test-agent
	$(RUNTIMES_VENV)/bin/python $(PYTEST) -n $(WORKERS) $(AGENT_INI) --outcomes=$(RUNTIMES_VENV)/outcomes.json --only-skipped-in=$(AGENT_VENV)/outcomes.json tests/evaluators

$(RUNTIMES_READY): evaluators/pyproject.toml $(LOCK)
	$(call new-environment,$(RUNTIMES_VENV))
	@echo "$(RUNTIMES_VENV): installing the agent with onnxruntime, OpenVINO and LiteRT, and what tests it"
	@$(call locked-install,$(RUNTIMES_VENV)) --group evaluators/pyproject.toml:test --group evaluators/pyproject.toml:runtimes --editable "./evaluators[onnxruntime,openvino,litert]"
	@touch $@

# The oldest releases that pyproject.toml allows: the unit tier, and a test of each library at its door.
LOWEST_TESTS := tests/search/unit tests/evaluators/unit $(addprefix tests/search/component/, \
	backbones/test_vit.py cli compress/quantization/test_quantize.py compress/test_prune.py data/folders data/timm_sets \
	export report search/test_run.py storage study training/test_fine_tune.py) tests/search/system/workers/test_ray_runner.py

test-lowest: $(LOWEST_READY)
	$(LOWEST_VENV)/bin/python $(PYTEST) -n $(WORKERS) $(LOWEST_TESTS)

$(LOWEST_READY): pyproject.toml evaluators/pyproject.toml
	$(call new-environment,$(LOWEST_VENV))
	$(LOWEST_VENV)/bin/python -m pip install --quiet uv
	$(LOWEST_VENV)/bin/uv pip compile --quiet --resolution lowest-direct --no-emit-package vitsearch-agent --group dev --output-file $(LOWEST_VENV)/lowest.txt pyproject.toml
	$(LOWEST_VENV)/bin/python -m pip install --quiet --constraint $(LOWEST_VENV)/lowest.txt --editable ./evaluators --editable ".[openvino]" --group dev
	@touch $@

# The newest release of everything, where nothing is locked: what fails here fails for a new user.
test-latest: MARK := not long
test-latest: $(LATEST_READY)
	$(LATEST_VENV)/bin/python $(PYTEST) -n $(WORKERS) tests/search tests/evaluators/component/runtimes/test_executorch.py tests/evaluators/component/runtimes/test_ncnn.py

$(LATEST_READY): pyproject.toml evaluators/pyproject.toml
	$(call new-environment,$(LATEST_VENV))
	@$(LATEST_VENV)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager pip --editable ./evaluators --editable ".[openvino,litert,executorch,ncnn]" --group dev
	@touch $@

# The whole way on an emulated aarch64 board, by hand and before a release. It is in neither `test` nor `test-long`: its
# times say nothing, and it needs Linux 6.7 and Debian's packages; elsewhere its tests are skipped with the reason.
test-board: setup
	$(BIN)/python -m pytest -v -s -rfEs --durations=20 $(ARGS) tests/board

# Both packages as wheels, in dist/: pip install dist/vitsearch*.whl
wheels:
	@rm -f dist/vitsearch*.whl
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist ./evaluators .

# The agent as one file for a board: python3 vitsearch-agent.pyz serve --state ~/vitsearch-state
agent-pyz:
	$(PYTHON) tools/make_agent_pyz.py vitsearch-agent.pyz

lint: $(DOCS_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin --no-tips --target=3.6- --violations evaluators/vitsearch_agent
	$(BIN)/python tools/lint_scripts.py
	$(BIN)/python tools/lock.py --check

# The versions of all packages; those that are there stay. The newest: make lock ARGS=--upgrade
lock: setup
	$(BIN)/python tools/lock.py $(ARGS)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mkdocs, which writes the site; mypy reads the hooks of it too.
$(DOCS_READY): $(READY)
	@echo "$(VENV): installing what writes the documentation site"
	@$(call locked-install,$(VENV)) --group docs
	@touch $@

# The documentation site, in site/. Every warning is an error: a link that leads nowhere, a page without a place.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup
	$(call locked-install,$(VENV)) --editable ".[bench]"
	$(BIN)/python benchmarks/driver_cost.py

clean:
	rm -rf $(VITSEARCH_CONVERTERS) $(VENV) $(AGENT_VENV) $(RUNTIMES_VENV) $(LOWEST_VENV) $(LATEST_VENV) $(VITSEARCH_BOARD) site vitsearch-agent.pyz
