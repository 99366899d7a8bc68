# The two commands of the lab are `make run` and `make test`; each does all that it needs, from a fresh clone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test setup lint readme bench-setup clean

run: setup  ## train, demonstrate and evaluate all three projects into runs/
	$(BIN)/lab run all

test: lint  ## the whole test suite
	$(BIN)/python -m pytest -n 2

setup: .venv/run-installed  ## a working .venv

lint: .venv/test-installed  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

readme: .venv/test-installed  ## the commands of the READMEs, each in a fresh copy
	$(BIN)/python -m pytest -m readme

bench-setup: runs/peers/installed  ## the libraries that the benchmarks compare with, in runs/peers

clean:  ## forget the environment and what make run wrote
	rm -rf .venv runs *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run-installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/test-installed: .venv/run-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

runs/peers/installed: benchmarks/requirements.txt requirements.txt
	$(PYTHON) -m venv runs/peers
	runs/peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@
