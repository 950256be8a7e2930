# `make search` and `make test` work on a fresh machine that has Python 3.11 or 3.12 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := shapes
# So many files of tests are under way at one time.
TESTERS := 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: search test check bench faults fuzz cluster-test install clean

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
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff format --check gcc_search tests benchmarks
	$(BIN)/ruff check gcc_search tests benchmarks
	$(BIN)/mypy --strict gcc_search benchmarks
	$(BIN)/python -m pytest tests/test_architecture.py

bench: install
	$(BIN)/python -m benchmarks --trials 2000 --in-one-process 30

# Real searches killed at a hundred moments, and counted against an undisturbed one: about an hour on 2 idle cores.
faults: install
	$(BIN)/python -m tests.faults --kills 100 --seed 0

# A hundred thousand files from elsewhere: nothing but our own errors may come out.
fuzz: install
	$(BIN)/python -m tests.fuzz --inputs 100000 --seed 0

# Several hosts on one machine, as root: network namespaces, sshd and Ray in each; links cut, hosts killed, strangers.
cluster-test: install
	$(BIN)/python -m tests.hosts

clean:
	rm -rf $(VENV) build *.egg-info
