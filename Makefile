# `make demo` shows the main job, `make test` checks everything, `make docs` builds the documentation.
# VENV may name an environment outside the clone; they make it from nothing where it is missing.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks examples docs

.DEFAULT_GOAL := help
.PHONY: help demo docs tutorials test test-all lint types unit tests tests-all slow format clean

help:
	@echo "make demo      install, and do the main job on real digits (two minutes after installation)"
	@echo "make docs      write the generated reference and build the documentation into site/"
	@echo "make tutorials run every command of the tutorials at a small size (about seven minutes)"
	@echo "make test      lint, types and the default tests (at most 8 minutes on two quiet cores)"
	@echo "make test-all  lint, types and all tests but those marked slow"
	@echo "make unit      the tests of the torch-free core (about a minute)"
	@echo "make slow      the tests marked slow"
	@echo "make format    format the code"

# The stamps lie in the environment, so that a clone with a cached one does not install again.
$(VENV)/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Triscale into $(VENV) (PyTorch is large; about two minutes)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed
	@echo "installing what the tests need"
	@$(INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@echo "installing what the documentation needs"
	@$(INSTALL) --editable '.[docs]'
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/triscale demo --out demo

docs: $(VENV)/installed-docs
	@$(BIN)/python docs/generate.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "the documentation is in site/index.html"

tutorials: $(VENV)/installed-tests
	@$(BIN)/python docs/follow.py

test: lint types tests

test-all: lint types tests-all

lint: $(VENV)/installed-tests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/installed-tests
	$(BIN)/mypy

UNIT := tests/network tests/families tests/scaling tests/test_errors.py tests/test_record.py tests/test_schemas.py tests/test_layering.py tests/test_surface.py tests/test_words.py

unit: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not stress" $(UNIT) -n 2 --dist loadfile

# Tests of training fork processes; libraries that other tests load may start threads after which a fork cannot train.
# JAX is one, so that its tests have a run of their own.
tests: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not stress" -n 2 --dist loadfile tests/training
	$(BIN)/python -m pytest -m "not slow and not gpu and not stress" -n 2 --dist loadfile tests/xla
	$(BIN)/python -m pytest -m "not slow and not gpu and not stress" -n 2 --dist loadfile --durations 20 --ignore tests/training --ignore tests/xla

tests-all: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile tests/training
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile tests/xla
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --durations 20 --ignore tests/training --ignore tests/xla

slow: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m slow

format: $(VENV)/installed-tests
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf .venv demo runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
