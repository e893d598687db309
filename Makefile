# Each target sets up what it needs in .venv; Python 3.11 and make are the only prerequisites.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CORES ?= all
ARGS ?=
MINUTES ?= 10
KILLS ?= 20
BIN := $(VENV)/bin
# Everything else stands in profiles/default, which Snakemake loads by itself.
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
# Snakemake hears only the last --config: what ARGS sets stands behind the scale, not in its place.
SMOKE := --config scale=smoke
AT_SMOKE = $(if $(filter --config -C,$(ARGS)),$(patsubst -C,$(SMOKE),$(patsubst --config,$(SMOKE),$(ARGS))),$(ARGS) $(SMOKE))
# Keep the user's own settings and packages out of the environment.
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DVC_NO_ANALYTICS := 1
# A line per job and a bar instead of Snakemake's own text; BEVKD_CONSOLE=0 brings that back.
export BEVKD_CONSOLE ?= 1
# The workflow runs single-threaded jobs side by side: two of them beat one with two threads.
export OMP_NUM_THREADS ?= 1

.PHONY: reproduce preview extended smoke resume adopt test test-fast test-slurm fuzz chaos lint format docs wheel env env-dev doctor clean help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

reproduce: env ## Make every table and figure of the default scale (resumes by itself)
	$(SNAKEMAKE) $(ARGS)

preview: env ## One seed of each paper's headline, for a first look (n = 1)
	$(SNAKEMAKE) preview $(ARGS)

extended: env ## Trials, other ablations and controls, three labelled subsets, long curves; then the page again
	$(SNAKEMAKE) tuning extended $(ARGS)
	$(SNAKEMAKE) --force report $(ARGS)

smoke: env ## The whole workflow at smoke scale (results/smoke)
	$(SNAKEMAKE) $(AT_SMOKE)

resume: env ## Continue after a crash or kill -9 (drops the stale lock first; nothing may be running)
	$(BIN)/snakemake --unlock
	$(SNAKEMAKE) $(ARGS)

adopt: env ## After `dvc pull`: take data, weights and metrics as they came, instead of making them again
	$(BIN)/python workflow/scripts/adopt.py
	$(BIN)/snakemake --touch --cores 1 $(ARGS)

test: env-dev ## Lint, type check and all tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $${BEVKD_TEST_JOBS:-2} --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: env-dev ## Tests of seconds only
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-slurm: env-dev ## The smoke workflow on a real single-node SLURM (Debian packages, as root)
	$(BIN)/pip install -q -c constraints.txt -e '.[slurm]'
	bash workflow/slurm/test.sh $(BIN) $(ARGS)

fuzz: env-dev ## Read damaged files of all formats for MINUTES, with random seeds (ARGS: names of formats)
	$(BIN)/python tests/fuzz/run.py --minutes $(MINUTES) $(ARGS)

chaos: env-dev ## Kill commands and workflows KILLS times at random, resume them, and compare (ARGS: names of victims)
	$(BIN)/python tests/chaos/run.py --kills $(KILLS) $(ARGS)

lint: env-dev ## ruff, snakefmt, mypy, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: env-dev ## Format everything
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

docs: env ## Make docs/command_line.md and docs/config.md anew from the code
	$(BIN)/python docs/generate.py

wheel: env ## Build dist/bevkd-*.whl, which holds the configuration
	$(BIN)/pip wheel -q --no-deps --wheel-dir dist .

doctor: env ## What is installed and which fast paths are active
	$(BIN)/bevkd doctor

env: $(VENV)/.bevkd-core
env-dev: $(VENV)/.bevkd-dev

$(VENV)/.bevkd-core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

# The page is tested in a browser: one that is installed, else Playwright's own where it can be fetched, else not at all.
# The devkit pins numpy<2 and an old Shapely; its code runs on today's. It is a test oracle only, hence --no-deps.
$(VENV)/.bevkd-dev: $(VENV)/.bevkd-core
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,sparse]'
	$(BIN)/pip install -q --no-deps nuscenes-devkit==1.2.0
	command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null \
		|| timeout 60 $(BIN)/playwright install --only-shell chromium >/dev/null 2>&1 \
		|| echo "No Chromium here, and none fetched within a minute: tests skip the page in a browser" \
			"(apt-get install chromium, or $(BIN)/playwright install chromium)."
	touch $@

clean: ## Remove runs, caches and simulated data (keeps tables and figures)
	rm -rf data results/runs results/cache results/smoke results/logs results/benchmarks .snakemake
