# The two commands of the lab are `make run` and `make test`; each installs what it needs in a fresh clone.
PYTHON ?= python3
# Address of the package index for PyTorch, from the install selector on its web site, for example the build for CPUs only:
# make run TORCH_INDEX=<address>. Empty: the default index.
TORCH_INDEX ?=
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

LESSONS := $(addprefix 00_first_steps/,autograd.py debugging.py small_network.py tensors.py training_loop.py) \
	01_q_learning_maze/q_learning_agent.py \
	02_transformer_basics/transformer_block.py \
	$(addprefix 02_transformer_basics/models/,distilbert.py generation.py gpt2.py internals.py) \
	03_ppo_reacher/ppo.py 03_ppo_reacher/rollout.py

.PHONY: run test setup lint browser readme notebooks bench-setup clean

run: setup  ## run all lessons into runs/
	$(BIN)/lab run all

test: lint  ## run the checks and the whole test suite
	$(BIN)/python -m pytest -n 2

setup: .venv/run-installed  ## create .venv with all dependencies

lint: .venv/test-installed  ## check style, format, types, and configuration files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --check --line-length 100 $(LESSONS)
	$(BIN)/ruff check --select E501 --line-length 100 $(LESSONS)
	$(BIN)/basedpyright
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/pre-commit validate-config

browser: .venv/test-installed  ## run the tests of `lab play` in Chromium
	$(BIN)/python -m pytest -m browser -n 2

readme: .venv/test-installed  ## run the commands of the documentation in a fresh clone
	$(BIN)/python -m pytest -m readme

notebooks: .venv/test-installed  ## generate the .ipynb files from notebooks/*.py
	$(BIN)/python tests/notebook_files.py

bench-setup: runs/peers/installed  ## install the libraries that the benchmarks compare with

clean:  ## remove the environment, caches and runs
	rm -rf .venv runs *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run-installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX) $(BIN)/python $(PIP_INSTALL) $(shell grep ^torch== requirements.txt))
	$(BIN)/python $(PIP_INSTALL) -r requirements.txt
	@touch $@

.venv/test-installed: .venv/run-installed
	$(BIN)/python $(PIP_INSTALL) -e '.[test]'
	@touch $@

runs/peers/installed: benchmarks/requirements.txt benchmarks/requirements_compiled.txt requirements.txt
	$(PYTHON) -m venv runs/peers
	runs/peers/bin/python $(PIP_INSTALL) -r benchmarks/requirements.txt
	-runs/peers/bin/python $(PIP_INSTALL) -r benchmarks/requirements_compiled.txt
	@touch $@
