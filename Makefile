# `make run` and `make test` are all the set-up that a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test bench fuzz lint clean help

run: $(STAMP)  ## a dev hub with simulated devices, live
	$(BIN)/hubkeep demo

test: $(STAMP)  ## set up what the tests need, then run them all
	$(BIN)/python tests/setup.py
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadscope

bench: $(STAMP)  ## the benchmark tables: beside Mosquitto, and of the registry
	$(BIN)/python benchmarks/bench.py $(ARGS)
	$(BIN)/python benchmarks/registry.py $(REGISTRY)

fuzz: $(STAMP)  ## fuzz the wires at length: ARGS="amqp --inputs 1000000 --seed 7"
	$(BIN)/python fuzz/run.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Hubkeep needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[fast,demo]" --group dev
	$(BIN)/python -m compileall -q src  # as installing a wheel does: else a hub that may not write there compiles at every start
	touch $@

clean:
	rm -rf $(VENV) build dist .hubkeep benchmarks/build

help:
	@grep -E '^[a-z]+:.*##' Makefile
