# make run  [ARGS="backbone=resnet50 data_shape=512"]   train, measure, show
# make test [ARGS="-k voc"]                             lint, types, tests
# Both install once, into .venv, the versions pinned for this Python in tools/requirements/.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= 2  # tests at a time; trainings among them use every core by themselves

.PHONY: run test lint reference clean

run: $(VENV)/.run
	$(BIN)/python -m ssd.run $(ARGS)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadscope $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# The key tables of conf/README.md, out of the comments in conf/.
reference: $(VENV)/.run
	$(BIN)/python tools/config_reference.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: $(PYTHON) is not Python 3.10, 3.11 or 3.12; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The editable install comes first (it alone builds anything), then the stamp that keeps a second make from installing.
$(VENV)/.run: setup.cfg ssd/__init__.py tools/install.sh $(wildcard tools/requirements/*.txt) | $(BIN)/python
	sh tools/install.sh $(BIN)/python cpu,dashboard,sweep
	touch $@

$(VENV)/.dev: $(VENV)/.run
	sh tools/install.sh $(BIN)/python cpu,dashboard,sweep,dev
	touch $@

clean:
	rm -rf $(VENV) *.egg-info build
