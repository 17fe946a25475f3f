# Two commands: `make demo` shows the main job, `make test` checks everything.
# VENV may name an environment outside the clone; both commands make it from nothing where it is missing.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks examples

.DEFAULT_GOAL := help
.PHONY: help demo test lint types tests slow format clean

help:
	@echo "make demo    install, and do the main job on real digits (two minutes after installation)"
	@echo "make test    lint, types and all tests"
	@echo "make slow    the long tests"
	@echo "make format  format the code"

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

demo: $(VENV)/installed
	@$(BIN)/triscale demo --out demo

test: lint types tests

lint: $(VENV)/installed-tests
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/installed-tests
	$(BIN)/mypy

tests: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

slow: $(VENV)/installed-tests
	$(BIN)/python -m pytest -m slow

format: $(VENV)/installed-tests
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf .venv demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
