# A thin door: Snakemake holds the graph (Snakefile), pytest the tests. `make` alone prints this help.
PROFILE ?= cpu
SPLITS ?= 0
WHERE ?= local
CLAIM ?=
TARGET ?= reproduce
GPU ?= 0
DATASET ?=
LEVEL ?= 1
PART ?= theory
VENV := .venv
STAMP := $(VENV)/.installed

# In a conda environment made from environment.yml: make reproduce BIN=$CONDA_PREFIX/bin
ifdef BIN
READY :=
else
BIN := $(CURDIR)/$(VENV)/bin
READY := $(STAMP)
endif

SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
export PATH := $(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)
export MPLBACKEND ?= agg
export MATPLOTLIBRC := $(CURDIR)/matplotlibrc
export OMP_NUM_THREADS ?= 1
export PYTHONUTF8 := 1
PYTHON := "$(BIN)/python"
ALONE = $(PYTHON) -m workflow.alone
SNAKEMAKE = $(ALONE) "$(BIN)/snakemake" --nolock --profile profiles/$(WHERE)
WITH = --config profile=$(PROFILE) splits=$(SPLITS) gpu=$(GPU)
RUNS = $(or $(RESULTS_DIR),results)/runs/$(PROFILE)
CHECK = @$(PYTHON) -m lib check --splits "$(SPLITS)" --gpu "$(GPU)" --where "$(WHERE)" "$(PROFILE)"

.PHONY: test-browser test-slurm help setup reproduce claims transfer test lint strip lab data report site verify crate bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(READY) ## .venv with everything from requirements.lock

$(STAMP): requirements.lock
	@command -v python3.11 >/dev/null || { echo "Python 3.11 is needed: install it so that python3.11 is found." >&2; exit 1; }
	@test -x $(VENV)/bin/python || python3.11 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@echo "$(CURDIR)" > "$$($(VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/registration_agent.pth"
	@touch $@

reproduce: $(READY) ## patients, training, registration, Table 1: PROFILE=smoke, cpu or paper; SPLITS=0 or all
	$(CHECK)
	@$(SNAKEMAKE) $(TARGET) $(WITH) 2>&1 | $(PYTHON) -m workflow.progress

claims: $(READY) ## a verdict on every claim, after reproduce: DRL, theory, ablations; CLAIM=C8 for what is behind one
	$(CHECK)
	@$(PYTHON) -m lib claims check $(CLAIM)
	@$(SNAKEMAKE) $(if $(CLAIM),claim,claims) $(WITH) claim=$(CLAIM) 2>&1 | $(PYTHON) -m workflow.progress
	@$(PYTHON) -m lib claims show $(PROFILE) $(CLAIM)

transfer: $(READY) ## agents that also trained on patients grown from real scans, on scans that they never saw
	$(CHECK)
	@$(SNAKEMAKE) transfer $(WITH) 2>&1 | $(PYTHON) -m workflow.progress

# A tiny end-to-end run first, from nothing and in a folder of its own; then each notebook as shipped on what that
# left, in reading order; then the unit tests and the numbers in those artefacts. The last line is pytest's summary.
TEST := RESULTS_DIR="$(CURDIR)/.test/results" DATA_DIR="$(CURDIR)/.test/data"
NBVAL := --nbval-current-env --nbval-cell-timeout=300 --nbval-kernel-name=python3
# Tests side by side, a process a core: a notebook stays in one, other tests go to whoever is free.
CORES := -n auto --maxprocesses 4 --dist

test: lint ## everything that CI checks, 16 minutes on two idle cores
	@$(ALONE) $(MAKE) --no-print-directory tests-alone

.PHONY: tests-alone
tests-alone:
	@rm -rf .test
	@$(TEST) $(MAKE) --no-print-directory reproduce PROFILE=smoke SPLITS=0
	@$(TEST) $(PYTHON) -m pytest -q $(CORES) loadfile --nbval-lax $(NBVAL) $(filter-out notebooks/10%,$(sort $(wildcard notebooks/*.ipynb)))
	@$(TEST) $(PYTHON) -m pytest -q --nbval $(NBVAL) --nbval-sanitize-with tests/nbval.cfg $(wildcard notebooks/10*.ipynb)
	@$(TEST) $(PYTHON) -m pytest -q $(CORES) worksteal

test-browser: $(READY) ## JupyterLab and the site in a real browser (installs Debian's Chromium; first a smoke run, where there is none)
	@tests/browser/install.sh $(PYTHON)
	@test -f .test/results/runs/smoke/summary/table1.csv || $(TEST) $(MAKE) --no-print-directory reproduce PROFILE=smoke SPLITS=0
	@$(TEST) STUDY_PYTHON=$(PYTHON) PYTHONPATH= tests/browser/.venv/bin/python -m pytest -q -s tests/browser

test-slurm: $(READY) ## PROFILE=smoke through a real one-node Slurm (installs Debian's; as root), disturbed; 20 minutes
	@tests/slurm/start.sh
	@$(PYTHON) -m tests.slurm.drill "$(CURDIR)/.test/slurm" $(if $(filter $(READY),$(STAMP)),,BIN="$(BIN)")

lint: $(READY) ## ruff, its formatter, and the layers contract of the house
	@"$(BIN)/ruff" check . && "$(BIN)/ruff" format --check . && "$(BIN)/lint-imports" --no-logo

# What JupyterLab saves into a notebook, outputs and counts, git does not see: the filters that .gitattributes names. A
# notebook that differs in nothing else is added again, or `git status` would list it for its new size.
STRIP := $(PYTHON) -m nbstripout --keep-id --extra-keys metadata.language_info
strip: $(READY)
	@git config filter.nbstripout.clean '$(STRIP)'
	@git config filter.nbtext.clean '$(STRIP) --keep-output --keep-count'
	@git config diff.ipynb.textconv '$(STRIP) --textconv'
	@for name in $$(git ls-files -m notebooks); do git diff --quiet -- "$$name" && git add -- "$$name"; done; true

lab: $(READY) ## JupyterLab in notebooks/ with the project's own kernel; git does not see the outputs that it saves
	@trap : INT; clone=$$(git rev-parse --is-inside-work-tree 2> /dev/null); \
	test -z "$$clone" || $(MAKE) --no-print-directory strip; \
	MPLBACKEND= "$(BIN)/jupyter" lab --notebook-dir=notebooks; \
	test -z "$$clone" || $(MAKE) --no-print-directory strip

data: $(READY) ## fetch a data set of data_manifests/: DATASET=name; without one, all are listed
	@$(PYTHON) -m lib data $(DATASET)

report: $(READY) ## executed notebooks of PROFILE as web pages in results/runs/<profile>/report
	$(CHECK)
	@$(PYTHON) -m workflow.report --profile $(PROFILE)

site: $(READY) ## README, docs, studies and executed notebooks as a web site, readable without Python: results/runs/<profile>/site
	$(CHECK)
	@$(PYTHON) -m workflow.website --profile $(PROFILE)

verify: $(READY) ## do files follow from their sources? LEVEL=2: agents walk again; LEVEL=3 PART=study: run again
	$(CHECK)
	@$(PYTHON) -m lib verify --profile $(PROFILE) --level $(LEVEL) --part $(PART)

crate: $(READY) ## results/ as an RO-Crate: ro-crate-metadata.json, read from the provenance files
	$(CHECK)
	@$(PYTHON) -m lib crate --profile $(PROFILE)

# As Snakefile starts a training: fewer page faults.
MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=200000000

bench: $(READY) ## targets, samples, steps and roll-outs a second on this machine
	@$(MEMORY) $(PYTHON) -m lib bench

clean: ## remove executed notebooks, checkpoints and generated volumes of PROFILE (tables and figures stay)
	$(CHECK)
	@$(ALONE) rm -rf "$(RUNS)" "$(or $(DATA_DIR),data)/$(PROFILE)" .test .snakemake .pytest_cache .ruff_cache
