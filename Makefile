# Everything runs in one environment, .venv, made from nothing but python3 and make.
# The first call installs (a download of about 1 GB, some minutes); later calls check a stamp.
#
#   make demo        build the three synthetic sets, train three models, benchmark, one summary
#   make test        the tests (slow ones: make test-slow)
#   make bench       the benchmarks, all of them (ARGS="--quick": some minutes); tables, a JSON file
#                    and a page with plots in benchmarks/results
#   make peers       other libraries, each in an environment of its own, for
#                    make bench ARGS="--suite peers"
#   make results     every run of RESULTS.md, and the page; goes on where it was stopped
#                    (ARGS="data runs/results": where the sets lie, and where runs go)
#   make lint        ruff and mypy
#   make docs        the documentation as a site, with an API reference: site/index.html
#   make gpu-check   within 8 minutes: does all run on the GPU of this machine, and how fast; goes on
#                    with what was left (ARGS=--cpu: a part on a CPU); says so when there is no GPU
#   make gpu-audit   what a step of each kind of model would do on a GPU, read from TensorFlow's
#                    kernels: no GPU needed; docs/notes/gpu_audit.md (ARGS="resnet50": only this model;
#                    ARGS=missing: what the page says was not run)
#   make damage-page tests/faults/damage_messages.md, from what the tests see
#   make house       lines, functions, folders, circles and comments, as one table (ARGS=FOLDER: of
#                    another checkout)
#   make clean       remove .venv and caches (never data or runs)
#
# Settings: PYTHON=python3.12 is the interpreter that makes .venv, EXTRAS=test,lint,gpu what is
# installed, TEST_WORKERS=4 the test processes, ARGS="..." goes to the command behind the target.

PYTHON ?= python3
TEST_WORKERS ?= 2
ARGS ?=

GPU_COUNT := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
ifeq ($(GPU_COUNT),0)
EXTRAS ?= test,lint
# 3 also hides "failed call to cuInit", which only says that this machine has no GPU.
export TF_CPP_MIN_LOG_LEVEL ?= 3
else
EXTRAS ?= test,lint,gpu
export TF_CPP_MIN_LOG_LEVEL ?= 2
endif

# Without bytecode files every process that imports TensorFlow needs about 10 s instead of 3.5 s.
unexport PYTHONDONTWRITEBYTECODE
# Packages of another environment must not shadow the ones installed here.
unexport PYTHONPATH PYTHONHOME
# The models are Keras 3 on TensorFlow, whatever ~/.keras/keras.json or the shell says.
export KERAS_BACKEND := tensorflow

RUN := .venv/bin/python
STAMP := .venv/installed
# Outside .venv, because making the environment empties that folder first.
UNFINISHED := .venv-unfinished
# A stamp counts only for this folder (an environment does not survive being moved or copied), for
# these extras, and while its interpreter still runs.
STAMP_TEXT := $(CURDIR) $(EXTRAS)
ifneq ($(shell .venv/bin/python -c 'print(open("$(STAMP)").read().strip())' 2>/dev/null),$(STAMP_TEXT))
STALE := stale
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench peers results lint format gpu-check gpu-audit damage-page install docs clean stale

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: $(STAMP)
	@$(RUN) -m benchmarks.demo $(ARGS)

# Files, not single tests, go to the workers: one file's tests share models and datasets. In the
# order of tests/conftest.py, the longest first: else one worker waits some minutes for the other.
test: $(STAMP)
	@$(RUN) -m pytest -q -m "not slow and not peers" -n $(TEST_WORKERS) --dist loadfile \
	  --no-loadscope-reorder --durations=10 $(ARGS)

test-slow: $(STAMP)
	@$(RUN) -m pytest -q -m "slow and not peers" $(ARGS)

bench: $(STAMP)
	@$(RUN) -m benchmarks.run $(ARGS)

# One environment per peer: their pins touch neither ours nor each other's. One that cannot be
# installed is skipped, here and in the benchmark.
PEERS := $(basename $(notdir $(wildcard benchmarks/peers/requirements/*.txt)))
peers: $(PEERS:%=.peers/%)

.peers/%: benchmarks/peers/requirements/%.txt
	@echo "Installing $* into $@"
	@$(PYTHON) -m venv --clear $@ && $@/bin/pip install -q setuptools wheel "numpy>=2" \
	  && $@/bin/pip install -q --no-build-isolation -r $< \
	  || { rm -rf $@; echo "$* could not be installed: skipped"; }

results: $(STAMP)
	@train/reproduce_results.sh $(ARGS)

lint: $(STAMP)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(STAMP)
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

gpu-check: $(STAMP)
	@$(RUN) -m benchmarks.gpu_check $(ARGS)

# An environment of its own: the site reads the sources and imports nothing of them, so it needs
# neither TensorFlow nor .venv, and no pin of it can change what the tests run with.
docs: .docs/installed
	@rm -rf site
	@NO_MKDOCS_2_WARNING=1 .docs/bin/mkdocs build --quiet --strict
	@echo "site/index.html: $$(find site -name '*.html' | wc -l) pages"

.docs/installed: setup.cfg constraints.txt
	@echo "Installing the tools of the site into .docs"
	@$(PYTHON) -m venv --clear .docs
	@$(PYTHON) -c 'import configparser as c; p = c.ConfigParser(); p.read("setup.cfg", "utf-8"); \
	  print(p["options.extras_require"]["docs"])' > .docs/requirements.txt
	@.docs/bin/pip install --no-compile -r .docs/requirements.txt -c constraints.txt \
	    >.docs/install.log 2>&1 || { tail -n 20 .docs/install.log >&2; exit 1; }
	@touch $@

# A row is what a test saw; they are all in these files.
gpu-audit: $(STAMP)
	@$(RUN) -m tests.support.gpu_audit_table $(ARGS)

damage-page: $(STAMP)
	@rm -f .faults.jsonl
	@FAULT_MESSAGES=$(CURDIR)/.faults.jsonl $(RUN) -m pytest -q -m "not slow" \
	  tests/faults $(ARGS)
	@$(RUN) tests/support/damage_page.py .faults.jsonl

house: $(STAMP)
	@$(RUN) -m tests.project.house_figures $(ARGS)

install: $(STAMP)

# pip resolves and downloads everything before it changes anything, so a failed call leaves the
# environment as it was. A killed one may leave packages that only look whole: $(UNFINISHED) is
# still there then, and the environment is made anew, as it is when pyvenv.cfg names another
# folder: the scripts in .venv/bin start with that folder's path. --no-compile: of the 60 s that
# compiling every package to bytecode takes, the modules in use need 20, at their first import.
$(STAMP): setup.cfg pyproject.toml constraints.txt $(STALE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { \
	  echo "Makefile: $(PYTHON) expected Python 3.11 or 3.12, received:" \
	    "$$($(PYTHON) --version 2>&1 | head -n 1). Name another one: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	@if [ -e $(UNFINISHED) ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1 \
	    || ! grep -qF -- ' $(CURDIR)/.venv' .venv/pyvenv.cfg; then \
	  echo "Making .venv with $$($(PYTHON) --version)"; \
	  touch $(UNFINISHED) && $(PYTHON) -m venv --clear .venv; \
	fi
	@echo "Installing $(EXTRAS) into .venv, some minutes the first time." \
	  "To follow it: tail -f .venv/install.log"
	@rm -f $(STAMP) && touch $(UNFINISHED)
	@$(RUN) -m pip install --no-compile -e ".[$(EXTRAS)]" -c constraints.txt \
	    >.venv/install.log 2>&1 || { \
	  rm -f $(UNFINISHED); \
	  grep -v "is ignored: it is neither" .venv/install.log | tail -n 30 >&2; \
	  echo "Makefile: pip could not install; the full log is .venv/install.log" >&2; exit 1; }
	@echo "$(STAMP_TEXT)" > $(STAMP) && rm -f $(UNFINISHED)
	@echo "Installed."

clean:
	rm -rf .venv .docs site $(UNFINISHED) .pytest_cache .mypy_cache .ruff_cache *.egg-info build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
