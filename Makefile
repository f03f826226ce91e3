# `make` lists the targets. They need git, make and Python >= 3.11, and install everything else in .venv.

ifneq ($(words $(CURDIR)),1)
$(error The path of this folder holds a space, which make cannot handle: move it elsewhere)
endif

VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile $(PIP_OPTIONS)
# A checksum, so that the environment is rebuilt when these files change, whatever their modification times.
INSTALLED := $(VENV)/.installed-$(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
EXPLORER := $(INSTALLED)-explorer-$(shell cksum <requirements-explore.txt | cut -d' ' -f1)
export PATH := $(BIN):$(PATH)
# Use the code of this folder, even if another version is installed.
export PYTHONPATH := $(CURDIR)/src
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# What Python compiles is kept, as usual: otherwise each stage would compile the thousands of modules that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install repro test test-long test-cluster lint format exps ui explore bench gpu

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Create the environment in .venv (PYTHON=python3.13 for another Python, PIP_OPTIONS=... for pip)

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@# Two at a time: torch with its GPU libraries takes as long as all other packages.
	@sed -n '1,/^$$/p' requirements.txt >$(VENV)/torch.txt && sed '1,/^$$/d' requirements.txt >$(VENV)/others.txt
	$(PIP) -r $(VENV)/torch.txt & $(PIP) --no-deps -r $(VENV)/others.txt; others=$$?; wait $$! && exit $$others
	$(PIP) --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

repro: $(INSTALLED) ## Rebuild everything: download, crop, train, sample, evaluate, report (PRESET=celeba for CelebA)
	@$(if $(PRESET),$(BIN)/python -m dcgan preset $(PRESET),true)
	@$(BIN)/python -m dcgan check
	@start=$$(date +%s); DCGAN_SUMMARY=0 $(BIN)/dvc repro && $(BIN)/python -m pipeline.support.summary $$(($$(date +%s) - start))

test: $(INSTALLED) ## Run the tests (takes minutes)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long and not cluster"

test-long: $(INSTALLED) ## Run the long tests (takes minutes): sweeps, kills, clones, several processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m long

test-cluster: $(INSTALLED) ## Run the tests that need a real Slurm
	@$(BIN)/python -m pytest -m cluster tests/cluster

lint: $(INSTALLED) ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers 2

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The columns of `make exps`.
COLUMNS_SHOWN := Experiment|(fid|frechet_distance)(_floor)?|sample_recall|ngf|seed|epochs|batch_size|lr|loss|r1_gamma

exps: $(INSTALLED) ## The experiments of each commit, the smallest distance first, with the ten columns that matter most (`dvc exp show` has all)
	@$(BIN)/dvc exp show --drop '.*' --keep '^($(COLUMNS_SHOWN))$$' \
		--sort-by $$(grep -q '"fid":' reports/metrics.json 2>/dev/null && echo fid || echo frechet_distance)

ui: $(INSTALLED) ## Browse the runs in MLflow's UI on http://127.0.0.1:5000 (PORT=5001 for another port)
	@exec $(BIN)/python -m dcgan ui --port $(or $(PORT),5000)

explore: $(EXPLORER) ## Play with the generator on a page on http://127.0.0.1:2718 (PORT=..., MODEL=file or models:/NAME@ALIAS)
	@exec $(BIN)/python -m dcgan explore --port $(or $(PORT),2718) $(if $(MODEL),--model $(MODEL))

$(EXPLORER): $(INSTALLED)
	$(PIP) --no-deps -r requirements-explore.txt
	@touch $@

bench: $(INSTALLED) ## Measure the speed of a training step, the crop and the evaluation, and the cost of tracking
	@$(BIN)/python benchmarks/training_speed.py
	@$(BIN)/python benchmarks/crop_speed.py
	@$(BIN)/python benchmarks/evaluation_speed.py
	@$(BIN)/python benchmarks/tracking_cost.py

gpu: $(INSTALLED) ## Try and measure the whole pipeline on this machine's GPU (OUT=folder for the results)
	@$(BIN)/python benchmarks/gpu.py --out $(or $(OUT),gpu)
