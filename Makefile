# Each target does its whole set-up from a fresh clone; Python 3.11 with pip is all it needs.

PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

# Installed before everything else, on its own: a CPU build of about 200 MB, which PyPI does not have for Linux.
# Where PyTorch's own index cannot be reached, pip takes what PyPI has, with gigabytes of CUDA libraries.
# What it depends on comes with outrider's own requirements: no index but PyPI need be asked for that.
# For a GPU: make serve TORCH=torch (or any other pip requirement, index options included).
TORCH ?= torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu

# Passed on by `serve`, `bench` and the test targets: make serve ARGS="--drafter none --port 9000"
ARGS ?=

PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

serve: $(VENV)/.serve  ## Serve the default model; ARGS go to `outrider serve`
	@exec $(BIN)/outrider serve $(ARGS)

test: $(VENV)/.dev  ## The tests that every change must pass
	$(PYTEST) $(ARGS)

test-truth: $(VENV)/.dev  ## Same text with any drafter, the full matrix on the real model (well over an hour)
	$(PYTEST) -m slow --timeout 7200 -s $(ARGS)

test-faults: $(VENV)/.dev  ## Kill and stop drafters, ranks and targets in mid-stream; every stream must end with its own text
	$(PYTEST) -m faults --timeout 1800 $(ARGS)

test-gpu: $(VENV)/.dev  ## On a machine with a CUDA device: kernels against their references, graphs, same text
	$(PYTEST) -m "gpu or kernels" --timeout 1200 tests/workers $(ARGS)

bench: $(VENV)/.dev  ## Speed and memory beside Hugging Face generate, one interleaved run
	$(BIN)/python -m cluster.bench.versus_hf $(ARGS)

bench-speculation: $(VENV)/.dev  ## Is speculation ever slower than none? Drafters of three kinds against none
	$(BIN)/python -m cluster.bench.never_slower $(ARGS)

bench-peers: $(VENV)/.dev  ## Speed beside llama.cpp's server and vLLM, where ARGS say that they are here
	$(BIN)/python -m cluster.bench.peers $(ARGS)

bench-drafters: $(VENV)/.dev  ## What the drafter that comes along brings, and n-gram look-up, against plain decoding
	$(BIN)/python -m cluster.bench.drafters $(ARGS)

bench-pipelining: $(VENV)/.dev  ## Does overlapping drafting and verification pay? Emulated models, all else real
	$(BIN)/python -m cluster.bench.pipelining $(ARGS)

bench-load: $(VENV)/.dev  ## A running endpoint or a local engine under load, with and without speculation
	$(BIN)/outrider bench $(ARGS)

bench-overhead: $(VENV)/.dev  ## What scheduling a step costs, without a model, and where it goes
	$(BIN)/python -m cluster.bench.step_overhead $(ARGS)

bench-plan: $(VENV)/.dev  ## Does `outrider plan` predict this machine? Simulated throughput beside measured
	$(BIN)/python -m cluster.bench.plan_accuracy $(ARGS)

bench-overload: $(VENV)/.dev  ## Ten times the load that is sustained: who is let in, how fast others are told, memory
	$(BIN)/python -m cluster.soak.overload $(ARGS)

bench-metrics: $(VENV)/.dev  ## What counting for metrics costs per step, in processor time
	$(BIN)/python -m cluster.bench.metrics_cost $(ARGS)

bench-gpu: $(VENV)/.dev  ## How near the GPU's limits are the steps of target and drafter? Random weights, no hub, no Ray
	$(BIN)/python -m cluster.bench.gpu $(ARGS)

bench-gpu-end-to-end: $(VENV)/.dev  ## On a GPU: a target with a drafter against the target alone, synthetic acceptance
	$(BIN)/python -m cluster.bench.gpu.end_to_end $(ARGS)

check: lint types imports stubs-check  ## Everything but the tests

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.dev  ## Which package may import which
	$(BIN)/lint-imports

stubs: $(VENV)/.dev  ## Generate the gRPC stubs from proto/
	$(BIN)/python proto/generate.py

stubs-check: $(VENV)/.dev  ## Do the committed stubs match proto/?
	$(BIN)/python proto/generate.py --check

chart: $(VENV)/.dev  ## Make the Helm chart's schema, table of values and dashboards
	$(BIN)/python helm/generate.py

dev: $(VENV)/.dev  ## Only set up the virtual environment, tools included

clean:  ## Remove the virtual environment and all caches of the tools
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Stamps: a set-up is repeated only when pyproject.toml has changed since, or when another PyTorch is asked for by name.

ifneq ($(filter command environment,$(origin TORCH)),)
ifneq ($(strip $(TORCH)),$(strip $(shell cat $(VENV)/.torch 2>/dev/null)))
.PHONY: $(VENV)/.torch
endif
endif

$(VENV)/.torch:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say which: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(VENV) ($(TORCH)): some minutes, this once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip uninstall -qqy torch
	@$(BIN)/pip install -qq --no-deps --retries 2 $(TORCH)
	@echo '$(TORCH)' > $@

$(VENV)/.serve: $(VENV)/.torch pyproject.toml
	@echo "Installing outrider into $(VENV)"
	@$(BIN)/pip install -qq -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "Installing outrider and its test tools into $(VENV)"
	@$(BIN)/pip install -qq -e '.[dev]'
	@touch $@ $(VENV)/.serve

.PHONY: help serve test test-truth test-faults test-gpu bench bench-peers bench-speculation bench-drafters bench-pipelining bench-load bench-overhead bench-plan bench-overload bench-metrics bench-gpu bench-gpu-end-to-end check lint types imports stubs stubs-check chart dev clean
