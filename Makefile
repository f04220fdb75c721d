# The study in one word. PYTHON makes .venv; everything else runs in it.
PRESET ?= cpu
PYTHON ?= python3
BIN := .venv/bin
MODEL ?= runs/$(PRESET)/03-pretrain/model
HOURS ?= 8
PROCESSES ?= 2
RUNTIME := data/npm/onnxruntime-web-1.30.0.tgz
TORCH_CPU := https://download.pytorch.org/whl/cpu
export PYTHONUNBUFFERED := 1
# Jupyter looks for the kernel python3 here first: one of that name on JUPYTER_PATH, as on a JupyterHub, has no visionclip.
export JUPYTER_PATH := $(CURDIR)/.venv/share/jupyter$(if $(JUPYTER_PATH),:$(JUPYTER_PATH))

.PHONY: help setup study test lint unit nbval lab notebooks tune weights bench gpu-check datasets page runtime
.DEFAULT_GOAL := help

help: ## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: .venv/ready ## make .venv from requirements.lock (the other targets do it when needed)

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	@# Where there is no NVIDIA GPU, the CPU build of torch: 0.2 GB instead of 4. If it cannot be had, the next line gets any.
	command -v nvidia-smi >/dev/null || $(BIN)/python -m pip install --quiet --retries 0 --no-deps --extra-index-url $(TORCH_CPU) "$$(grep '^torch==' requirements.lock)" || true
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m visionclip.study environment
	@touch $@

study: .venv/ready ## run the study; PRESET=NAME, a folder of params/; SEEDS="1 2": the model for these seeds too
	@$(BIN)/python -m visionclip.study run $(PRESET) $(if $(SEEDS),--seeds $(SEEDS))
	@echo "Report: reports/$(PRESET)/index.html"

test: lint unit ## all that CI runs: style, types, unit tests, the whole smoke study, the notebooks' outputs
	$(MAKE) study PRESET=smoke
	$(MAKE) nbval

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

unit: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest tests -n 2 --dist loadfile

nbval: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest --nbval --nbval-sanitize-with tests/nbval-sanitize.cfg notebooks

lab: .venv/ready ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

notebooks: .venv/ready ## run the notebooks at their defaults and make their outputs fit to commit
	OMP_NUM_THREADS=1 $(BIN)/python -m visionclip.study refresh $(sort $(wildcard notebooks/*.ipynb))

tune: .venv/ready ## search the ranges of the drawing on the sets to choose by: MODEL=FOLDER HOURS=8
	$(BIN)/python -m visionclip.study.tune --model $(MODEL) --hours $(HOURS)

weights: .venv/ready ## make what weights/ publishes: the generator for hours, then overnight's model; a stopped run goes on
	$(BIN)/accelerate launch --cpu --num_processes $(PROCESSES) --num_machines 1 --mixed_precision no --dynamo_backend no -m visionclip.study.weights
	$(BIN)/python -m visionclip.study run overnight
	$(BIN)/python -m visionclip.study.release runs/overnight
	$(BIN)/python -m visionclip reference

bench: .venv/ready ## how fast the parts are on this machine; PEERS=/path/to/python with open_clip: beside it
	$(BIN)/python -m visionclip.study.bench $(if $(PEERS),--peers $(PEERS))

gpu-check: .venv/ready ## train, sample and resume on a CUDA machine, and print the speed
	$(BIN)/python -m visionclip.study.gpu_check

page: .venv/ready $(RUNTIME) ## put the published model, or MODEL=FOLDER, into one page to play with: reports/page
	$(BIN)/python -m visionclip.report.in_browser $(if $(filter command,$(origin MODEL)),--model $(MODEL))

runtime: $(RUNTIME) ## fetch from npm what runs the model in a browser: for make page and its tests

$(RUNTIME): # visionclip.report.in_browser checks its digest
	mkdir -p $(@D)
	npm pack --silent $(basename $(subst web-,web@,$(@F))) --pack-destination $(@D)

datasets: .venv/ready ## which real datasets are found, and how to get the others
	@$(BIN)/python -m visionclip.data.folders
