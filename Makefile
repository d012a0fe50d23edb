# Every target does its own set-up; the second time it is quick.
#   make serve   the server with the shipped bundle and the demo page on http://127.0.0.1:8080/
#   make demo    stream the demo dialogue to a running server
#   make test    the whole test suite          make check   lint, types, import rules, generated docs
#   make test-robustness   the long proofs that no input and no peer does harm
#   make train   all training steps, from raw corpora (DATA=folder) to a bundle
#   make train-free   the bundle of freely licensed data alone
#   make test-images   the container images, built and run (as root; Debian: podman runc netavark aardvark-dns debootstrap)
#   make test-integrations   the Pipecat plug-in, in an environment of its own
#   make bench   benchmarks                    make system-deps   Debian packages that some tests use
# PIP_FLAGS goes to pip (an index with CPU builds of torch, say). PYTHON chooses the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_FLAGS) --constraint constraints.txt
DATA ?= ../shared/data
SYSTEM_PACKAGES := chromium espeak-ng pulseaudio pulseaudio-utils libasound2-plugins libportaudio2 redis-server haproxy prometheus openssl strace libfaketime iproute2 $(if $(shell command -v npm),,nodejs npm)

.PHONY: serve demo test test-long test-robustness check bench bench-parts train train-free test-integrations first-emotion screenshots js-tools compose-tool test-images system-deps clean
.DEFAULT_GOAL := serve

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Emotrace needs Python 3.11 or newer: set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.service: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service (the first time takes a few minutes)"
	@$(PIP) --editable '.[service,microphone]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service, training and development tools (the first time takes a few minutes)"
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps xlstm==2.0.6  # reference for parity tests; its own requirements are not needed
	@$(PIP) --no-deps axe-playwright-python==0.1.8  # for its copy of axe-core; Playwright is not needed
	@touch $@ $(VENV)/.service

serve: $(VENV)/.service
	@$(BIN)/emotrace-serve

demo: $(VENV)/.service
	@$(BIN)/emotrace demo

test: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not long"

test-long: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

# Autobahn's 517 cases, five million fuzzed inputs, ten thousand sessions: three quarters of an hour.
test-robustness: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s -m long tests/robustness

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m emotrace_protocol.schema docs/protocol --check
	@$(BIN)/python -m emotrace_service.openapi docs/openapi.json --check

bench: $(VENV)/.dev
	@for command in pipeline "pipeline --bundle default" decoder scale "scale --sessions 1000" "live --overload"; do echo "== emotrace-bench $$command"; $(BIN)/emotrace-bench $$command || exit 1; done

# What one part costs, or does: docs/experiments.md and docs/decisions quote these.
bench-parts: $(VENV)/.dev
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; OMP_NUM_THREADS=1 $(BIN)/python $$script || exit 1; done

train: $(VENV)/.dev
	@$(BIN)/emotrace-train all --data $(DATA)

# Only data that may be used commercially: EmoDB, GoEmotions, EmoryNLP.
FREE := runs/free
SMALL_VOICE := --set steps=48 --set channels=[24,40,64,96] --set contour=24 --set pooled=128
train-free: $(VENV)/.dev
	@$(BIN)/emotrace-train prepare emodb --data $(DATA) --manifest $(FREE)/manifest.jsonl
	@$(BIN)/emotrace-train acoustic --manifest $(FREE)/manifest.jsonl --out $(FREE)/acoustic --frames $(FREE)/frames --folds 3 --members 2 $(SMALL_VOICE)
	@$(BIN)/emotrace-train lexical --text $(DATA)/text --corpora goemotions --corpora emorynlp --out $(FREE)/lexical
	@$(BIN)/emotrace-train compose --text $(DATA)/text --manifest $(FREE)/manifest.jsonl --corpus emorynlp --modality acoustic --modality lexical --out $(FREE)/composed
	@$(BIN)/emotrace-train fuse --composed $(FREE)/composed --acoustic $(FREE)/acoustic --manifest $(FREE)/manifest.jsonl --lexical $(FREE)/lexical --out $(FREE)/fusion --labels ekman6 --modality acoustic --modality lexical --seeds 1
	@$(BIN)/emotrace-train calibrate-dialogues --composed $(FREE)/composed --acoustic $(FREE)/acoustic --fusion $(FREE)/fusion
	@$(BIN)/emotrace-train bundle --acoustic $(FREE)/acoustic --lexical $(FREE)/lexical --fusion $(FREE)/fusion --name free --version 1 --made-of free --out runs/bundles/free
	@$(BIN)/emotrace-train evaluate-dialogues --composed $(FREE)/composed --bundle runs/bundles/free --seeds 3 --out $(FREE)/evaluation
	@$(BIN)/emotrace-train report --bundle runs/bundles/free --data $(DATA) --dialogues $(FREE)/evaluation/report.json --out $(FREE)/report --update-card

# Pipecat asks for older versions than the service has, so it has an environment of its own.
$(VENV)-pipecat/.ready: pyproject.toml
	@$(PYTHON) -m venv $(VENV)-pipecat
	@$(VENV)-pipecat/bin/python -m pip --disable-pip-version-check install --quiet $(PIP_FLAGS) --editable '.[pipecat]' pytest pytest-asyncio pytest-timeout
	@touch $@

test-integrations: $(VENV)/.dev $(VENV)-pipecat/.ready
	@$(VENV)-pipecat/bin/python -m pytest --confcutdir tests/integrations tests/integrations

# How long a new user waits for a first emotion, from a clean clone.
first-emotion:
	@$(PYTHON) tests/first_emotion.py

# The pictures of the page in docs/images.
screenshots: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python tests/screenshots.py

# TypeScript and esbuild, for tests of the JavaScript package.
js-tools: tests/js/node_modules/.ready
tests/js/node_modules/.ready: tests/js/package-lock.json
	@npm ci --prefix tests/js --silent --no-audit --no-fund && touch $@

# Compose 2 for Debian 12, whose own is version 1; the tests of docker/compose.yaml run it.
compose-tool: $(BIN)/docker-compose
$(BIN)/docker-compose: | $(BIN)/python
	@sh tests/deployment/compose_tool.sh $@

# Builds the images in a clean Debian root and runs them, alone and together: half an hour, 40 GB of disk.
test-images: $(VENV)/.dev $(BIN)/docker-compose
	@$(BIN)/python -m pytest -m long -s tests/deployment

system-deps:
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES)

clean:
	rm -rf $(VENV) build dist
