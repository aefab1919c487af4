# All set-up on a machine with nothing but Python and make:
#
#   make demo    installs into .venv, runs the main job on the embedded data, says where the report is
#   make test    installs the test extra and runs the tests, in a process for each core
#   make check   installs the check extra and runs the linters and the type checker
#   make clean   removes .venv and every cache; runs are kept
#
# Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: demo test check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/prognet run demo --out $(DEMO)
	@echo "The report is at $(CURDIR)/$(DEMO)/report.html"

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.installed-test,check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find prognet tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file stands for each set of extras, so a second call installs nothing until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install -e ".[$*]"
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PYTHON: required Python 3.11 or later, found %d.%d; name another one, e.g. make $(MAKECMDGOALS) PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
