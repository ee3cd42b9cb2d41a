# The two commands of the README. What can be given: make run CORES=8 CONFIG=config/paper.yaml,
# and PYTHON=python3.12 for the first of them, where python3 is too old.
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
VENV := .venv
INSTALLED := $(VENV)/installed
TESTABLE := $(VENV)/installed-test

.PHONY: run test lock

run: $(INSTALLED)
	$(VENV)/bin/snakemake --cores $(CORES) --configfile $(CONFIG) --quiet reason

test: $(TESTABLE)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint
	$(VENV)/bin/pytest

# --- the environment ----------------------------------------------------------------------------

# Understood by a Python of any age.
OLDEST := $(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
IS_NEW := 'import sys; sys.exit(list(sys.version_info[:2]) < [int(n) for n in "$(OLDEST)".split(".")])'
VERSION := 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])'
# Not the environment's own, which goes before the new one comes.
ITSELF := 'import sys; print(getattr(sys, "_base_executable", sys.executable))'

# There while packages are installed; stays when that is interrupted, or fails the first time.
UNFINISHED := $(VENV)/unfinished
USABLE := $(shell test ! -e $(UNFINISHED) && $(VENV)/bin/python -c $(IS_NEW) 2>/dev/null && echo yes)
ifneq ($(USABLE),yes)
.PHONY: $(INSTALLED)
endif

define refuse_a_folder_that_is_no_environment
$(if $(and $(wildcard $(VENV)),$(if $(wildcard $(VENV)/pyvenv.cfg $(UNFINISHED)),,no)),\
	$(error $(VENV) is no environment of Python: move it away))
endef
define refuse_an_old_python
$(if $(shell $(PYTHON) -c $(IS_NEW) 2>/dev/null || echo old),\
	$(error $(PYTHON) is $(or $(shell $(PYTHON) -c $(VERSION) 2>/dev/null),not there), and Python \
	$(OLDEST) or newer is needed: make $(firstword $(MAKECMDGOALS) run) PYTHON=python3.12))
endef
define begin_anew
$(refuse_a_folder_that_is_no_environment)$(refuse_an_old_python)\
rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && \
$(shell $(PYTHON) -c $(ITSELF)) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
endef
define install
test ! -e $(INSTALLED) || touch $(UNFINISHED); \
$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(1) || \
{ test ! -e $(INSTALLED) || rm $(UNFINISHED); exit 1; }
endef

$(INSTALLED): requirements.lock pyproject.toml
	@$(if $(USABLE),,$(begin_anew))
	@echo "Installing what the study needs into $(VENV): about 6 GB, some minutes"
	@$(call install,--requirement requirements.lock)
	@$(call install,--no-deps --editable .)
	@rm -f $(UNFINISHED) && touch $@

$(TESTABLE): $(INSTALLED) requirements-test.lock
	@echo "Installing what the tests need into $(VENV)"
	@$(call install,--requirement requirements-test.lock)
	@rm -f $(UNFINISHED) && touch $@

# Renews the lock files; needs uv.
LOCK := uv pip compile --quiet --universal --python-version $(OLDEST)
lock:
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --group test --constraint requirements.lock --output-file requirements-test.lock
