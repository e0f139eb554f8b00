# make demo    train on the handwritten digits and write the figures to demo-output/
# make test    the tests that take minutes or less; test-slow: the others; lint, types: the checkers
# make docs    the documentation as a site, in site/; fails at a dead link or a name that nothing is said about
# make dist    build wheel and source distribution into dist/, and try both in clean environments
# make clean   remove what was built, the virtual environment included
#
# All set-up happens here, in a virtual environment of this folder. Settings, with their defaults:
#   VENV=.venv      where it stands
#   PYTHON=...      the Python it is made from: the first of the list below that is 3.11 or newer
#   OUT=demo-output where the demo writes

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format types docs dist clean

VENV ?= .venv
OUT ?= demo-output
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER

# A virtual environment holds absolute paths: its stamps carry this folder's, so a moved checkout makes a new one.
HERE := $(shell pwd | cksum | cut -d' ' -f1)
CREATED := $(VENV)/.created-$(HERE)
installed = $(VENV)/.installed-$(1)-$(HERE)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(call installed,demo)
	$(BIN)/etrax train digits --out "$(OUT)" --restart

test: $(call installed,test)
	$(BIN)/pytest

test-slow: $(call installed,test)
	$(BIN)/pytest -m slow

lint: $(call installed,dev)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(call installed,dev)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The copy that is checked is named by its source in what is printed.
types: $(call installed,test) $(call installed,dev)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/types .
	{ $(BIN)/mypy build/types/etrax && $(BIN)/mypy --no-check-untyped-defs tests &&
	MYPYPATH=build/types $(BIN)/mypy --config-file= --follow-imports=silent --warn-unused-ignores tests/calls.py; } | sed -E 's,build/types/etrax/(neurons|synapses)/,\1/,; s,build/types/etrax/,plugin/,'

# Each is installed where nothing else is, and tried from a folder where no source lies.
dist: $(call installed,dev)
	rm -rf dist build *.egg-info
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	aside=$$(mktemp -d)
	trap 'rm -rf "$$aside"' EXIT
	for file in "$(CURDIR)"/dist/*; do
	    echo "Trying $$(basename "$$file") in a clean environment"
	    $(BIN)/python -m venv --clear --without-pip "$$aside/venv"
	    $(BIN)/python -m pip --python "$$aside/venv/bin/python" install --quiet --no-compile "$$file"
	    (cd "$$aside" && venv/bin/python -I "$(CURDIR)/tests/try_dist.py" "$(CURDIR)" && venv/bin/etrax --help >help.txt)
	    (cd "$$aside" && venv/bin/etrax --version && grep -q train help.txt)
	done

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(call installed,docs)
	$(BIN)/mkdocs build --strict
	@echo "Open site/index.html"

clean:
	rm -rf "$(VENV)" .venv-newer build dist site *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed-%-$(HERE): pyproject.toml | $(CREATED)
	@echo "Installing etrax with what '$*' needs into $(VENV) (at first a few hundred MB to download)"
	$(BIN)/python -m pip install --editable '.[$*]'
	touch $@

$(CREATED):
	@new_enough() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
	python="$(PYTHON)"
	if [ -z "$$python" ]; then
	    for name in python3 python3.14 python3.13 python3.12 python3.11; do
	        if new_enough "$$name"; then python=$$name; break; fi
	    done
	fi
	if [ -z "$$python" ] || ! new_enough "$$python"; then
	    python=$${python:-python3}
	    found=$$("$$python" --version 2>/dev/null || echo "not a Python that runs")
	    echo "etrax needs Python 3.11 or newer; $$python is $$found." >&2
	    echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2
	    exit 1
	fi
	echo "Making the virtual environment $(VENV) with $$python ($$("$$python" --version))"
	clear=; if compgen -G "$(VENV)/.created-*" >/dev/null; then clear=--clear; fi  # made by an earlier make, elsewhere
	if "$$python" -c 'import venv; from ensurepip import version' 2>/dev/null; then
	    "$$python" -m venv $$clear "$(VENV)"
	elif "$$python" -m pip --version >/dev/null 2>&1; then  # Debian without python3-venv, with python3-pip
	    "$$python" -m venv $$clear --without-pip "$(VENV)"
	    "$$python" -m pip --python "$(BIN)/python" install pip
	else
	    echo "$$python cannot make virtual environments (Debian and Ubuntu keep that apart)." >&2
	    echo "Install it, then try again: sudo apt install python3-venv" >&2
	    exit 1
	fi
	touch "$@"
