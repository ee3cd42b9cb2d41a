# The two commands of the README. CORES and CONFIG can be given: make run CORES=8 CONFIG=config/paper.yaml
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
VENV := .venv
INSTALLED := $(VENV)/installed

.PHONY: run test lock

run: $(INSTALLED)
	$(VENV)/bin/snakemake --cores $(CORES) --configfile $(CONFIG)

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint
	$(VENV)/bin/pytest

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	touch $@

# Renews the lock file; needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --all-extras --output-file requirements.lock pyproject.toml
