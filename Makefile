# The whole interface: run, test, check, bench. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run env test test-dates test-browser check format bench soak clean

run: $(VENV)/.runtime env
	$(BIN)/python app.py

env: $(VENV)/.runtime
	@$(BIN)/python -m shared env

test: $(VENV)/.dev
	@tests/tools.sh
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

# The suite under faked clocks; one of them with DATE=leap, say: see tests/dates.sh.
test-dates: $(VENV)/.dev
	@tests/tools.sh
	tests/dates.sh $(DATE)

test-browser: $(VENV)/.browser
	@tests/browser/chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/browser

soak: $(VENV)/.dev
	@tests/tools.sh
	$(BIN)/python -m pytest -m soak -s

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench
	@PYTHON=$(PYTHON) benchmarks/peers.sh
	$(BIN)/python -m benchmarks $(OPTIONS)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime

$(VENV)/.browser: $(VENV)/.dev requirements-browser.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
