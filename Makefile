# `make search` and `make test` work on a fresh machine that has Python 3.11 or 3.12 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := shapes
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: search test check bench install clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 12), "Python 3.11 or 3.12 is needed; name it: make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/installed

# A whole search on the embedded data set, then its figures.
search: install
	$(BIN)/gcc-search --space search_spaces/shapes.yaml --gpus 0 --name $(RUN)
	$(BIN)/gcc-search analyze runs/$(RUN)

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check gcc_search tests benchmarks
	$(BIN)/ruff check gcc_search tests benchmarks
	$(BIN)/mypy --strict gcc_search
	$(BIN)/python -m pytest tests/test_architecture.py

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info
