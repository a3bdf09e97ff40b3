# The whole interface: run, test, check, bench. Each sets up what it needs.
PYTHON ?= python3
# How many tests run at a time. Many wait for half of their time: a third worker shortens that.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
DEPENDENCIES := $(BIN)/python deploy/dependencies.py

# Where the host says that Python keeps nothing compiled, pytest would compile every test each time.
test test-fast test-dates test-browser: export PYTHONDONTWRITEBYTECODE :=

.PHONY: run env test test-fast test-dates test-browser check format lock bench soak clean

run: $(VENV)/.runtime env
	$(BIN)/python app.py

env: $(VENV)/.runtime
	@./bot shared env

test: $(VENV)/.dev
	@tests/tools.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not soak"

# For the loop of daily work: what needs no server (S3, the app, the stand-ins) and no browser.
FAST := tests/architecture tests/shared tests/facebook_integration tests/shopify_integration \
	tests/backups

test-fast: $(VENV)/.dev
	@tests/tools.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not soak and not slow" $(FAST)

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
	$(DEPENDENCIES) check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: | $(BIN)/python
	$(DEPENDENCIES) lock $(OPTIONS)

bench: $(VENV)/.dev
	@PYTHON=$(PYTHON) benchmarks/peers.sh
	$(BIN)/python -m benchmarks $(OPTIONS)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.runtime: requirements.txt | $(BIN)/python
	$(DEPENDENCIES) install requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(BIN)/python
	$(DEPENDENCIES) install requirements-dev.txt
	@touch $@ $(VENV)/.runtime

$(VENV)/.browser: requirements-browser.txt | $(BIN)/python
	$(DEPENDENCIES) install requirements-browser.txt
	@touch $@ $(VENV)/.dev $(VENV)/.runtime

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
