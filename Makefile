# `make run` and `make test` are all the set-up that a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: run test bench bench-peers connections soak fuzz fuzz-api testssl lint lock sbom clean help

run: $(STAMP)  ## a dev hub with simulated devices, live
	$(BIN)/hubkeep demo

test: $(STAMP)  ## set up what the tests need, then run them all
	$(BIN)/python tests/setup.py
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadscope

bench: $(STAMP)  ## the benchmark tables: beside Mosquitto, of the registry, and a storm of logins
	$(BIN)/python benchmarks/bench.py $(ARGS)
	$(BIN)/python benchmarks/registry.py $(REGISTRY)
	$(BIN)/python benchmarks/storm.py $(STORM)

connections: $(STAMP)  ## 10,000 devices on one hub, and their return after its restart: ARGS="--devices 1000"
	$(BIN)/python benchmarks/connections.py $(ARGS)

bench-peers: $(STAMP)  ## beside the MQTT servers that are installed: NATS, RabbitMQ, aMQTT, aedes: ARGS="--quick"
	$(BIN)/python benchmarks/peers.py $(ARGS)

soak: $(STAMP)  ## an hour of load, and whether memory, descriptors and disk stay flat: ARGS="--seconds 600"
	$(BIN)/python tests/faults/soak.py $(ARGS)

fuzz: $(STAMP)  ## fuzz the wires at length: ARGS="amqp --inputs 1000000 --seed 7"
	$(BIN)/python fuzz/run.py $(ARGS)

fuzz-api: $(STAMP)  ## Schemathesis over the HTTPS API at length: ARGS="--seconds 600 --seed 7"
	$(BIN)/python fuzz/api.py $(ARGS)

testssl: $(STAMP)  ## testssl.sh over the default listeners, some minutes: apt-get install testssl.sh
	$(BIN)/python tests/security/testssl.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:  ## the newest versions that pyproject.toml admits, with their hashes
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile $(LOCK) --extra fast pyproject.toml -o requirements/hub.lock
	$(BIN)/uv pip compile $(LOCK) --extra fast --extra demo --group dev pyproject.toml -o requirements/dev.lock

sbom: $(STAMP)  ## dist/sbom.json (CycloneDX): what an installed hub consists of
	test -x $(BIN)/cyclonedx-py || $(BIN)/python -m pip install --quiet cyclonedx-bom
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible requirements/hub.lock -o dist/sbom.json

$(STAMP): pyproject.toml requirements/dev.lock
	$(PYTHON) -c 'import sys; sys.exit("Hubkeep needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src  # as installing a wheel does: else a hub that may not write there compiles at every start
	touch $@

clean:
	rm -rf $(VENV) build dist .hubkeep benchmarks/build

help:
	@grep -E '^[a-z-]+:.*##' Makefile
