# The two commands of the README. CORES and CONFIG can be given: make run CORES=8 CONFIG=config/paper.yaml
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
DEVICE ?= cuda
VENV := .venv
INSTALLED := $(VENV)/installed
TESTABLE := $(VENV)/testable
INTEROP := .venv-interop
export OLDEST_PYTHON = 3.11

# Runs under any Python, so that an old one can say that it is too old.
define CHECK_PYTHON
import os, sys
needed = tuple(map(int, os.environ["OLDEST_PYTHON"].split(".")))
if sys.version_info < needed:
    sys.exit("collapseflow needs Python %d.%d or newer; %s is %d.%d: give another, such as "
             "make run PYTHON=python3.12" % (needed + (sys.executable,) + sys.version_info[:2]))
endef
export CHECK_PYTHON

# Run by the Python of $(INTEROP): gives it all that is installed in $(VENV), so that PyTorch is not
# installed twice.
define TAKE_WHAT_IS_INSTALLED
import os, sys, sysconfig
theirs = sysconfig.get_path("purelib", vars={"base": os.path.abspath(sys.argv[1])})
with open(os.path.join(sysconfig.get_path("purelib"), "installed.pth"), "w") as file:
    file.write("import site; site.addsitedir(%r)\n" % theirs)
endef
export TAKE_WHAT_IS_INSTALLED

.PHONY: run report test test-interop torture test-gpu lock

run: $(INSTALLED)
	$(VENV)/bin/snakemake --cores $(CORES) --configfile $(CONFIG)

# The page alone, with what it is made of.
report: $(INSTALLED)
	$(VENV)/bin/snakemake --cores $(CORES) --configfile $(CONFIG) write_page

# The tests of a file share studies, and stay in one process.
SIDE_BY_SIDE = --numprocesses=logical --maxprocesses=4 --dist=loadfile
test: $(TESTABLE)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint
	$(VENV)/bin/pytest $(SIDE_BY_SIDE)

# What works together with libraries that are not needed: timm, datasets, Lightning and others.
test-interop: $(INTEROP)/installed
	$(INTEROP)/bin/python -m pytest tests/interop $(SIDE_BY_SIDE)

# Fifty times the attacks of `make test` (docs/reliability.md), for hours; EFFORT=5 takes a tenth of
# it, another SEED tries other cases.
EFFORT ?= 50
SEED ?= 0
torture: $(TESTABLE)
	COLLAPSEFLOW_TORTURE=$(EFFORT) COLLAPSEFLOW_TORTURE_SEED=$(SEED) \
	    $(VENV)/bin/pytest tests/torture -s

# What holds on this machine's card, with what $(PYTHON) has installed. Goes on where it was stopped;
# anew without results/gpu-tests. DEVICE=cpu rehearses it on a processor.
test-gpu:
	@COLLAPSEFLOW_TEST_DEVICE=$(DEVICE) $(PYTHON) -m pytest tests/gpu --confcutdir=tests/gpu \
	    -p no:cacheprovider --tb=short -q -rN

# An environment whose installation did not end, or whose Python is gone, is started clean.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@test ! -e $(VENV) || test -e $(VENV)/pyvenv.cfg || \
	    { echo "$(VENV) is no virtual environment: move it away" >&2; exit 1; }
	@test -e $@ && $(VENV)/bin/python -c "$$CHECK_PYTHON" 2>/dev/null || \
	    $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes --requirement requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps --editable .
	touch $@

$(TESTABLE): $(INSTALLED) requirements-test.lock
	$(VENV)/bin/pip install --quiet --require-hashes --requirement requirements-test.lock
	touch $@

$(INTEROP)/installed: $(TESTABLE) requirements-interop.lock
	$(VENV)/bin/python -m venv --clear $(INTEROP)
	$(INTEROP)/bin/python -c "$$TAKE_WHAT_IS_INSTALLED" $(VENV)
	$(INTEROP)/bin/pip install --quiet --require-hashes --requirement requirements-interop.lock
	touch $@

# Renews the lock files, of what runs, of what tests and of what only test-interop needs; needs uv.
COMPILE = uv pip compile --quiet --universal --generate-hashes --python-version $(OLDEST_PYTHON) \
    pyproject.toml
lock:
	$(COMPILE) --output-file requirements.lock --extra workflow
	$(COMPILE) --output-file requirements-test.lock --extra workflow --extra test --no-annotate \
	    --constraint requirements.lock
	$(COMPILE) --output-file requirements-interop.lock --extra workflow --extra test \
	    --extra interop --no-annotate --constraint requirements-test.lock
