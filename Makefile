# Each target makes its own .venv if it is missing; nothing else is needed.
PYTHON ?= python3
BIN := .venv/bin
TEST_JOBS ?= 2

.PHONY: demo test test-slow check lint format

demo: .venv/ready
	$(BIN)/python -m sweeps reproduce demo/ladder --profile cpu

test: .venv/ready
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@
