# The verbs of the project, the same at home and in CI. Each works on a fresh clone by itself.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
# Tests start many processes, and each imports the libraries: what is compiled once is kept.
export PYTHONDONTWRITEBYTECODE :=
# As workers have it: torch's threads do not spin on cores that other test processes need.
export OMP_WAIT_POLICY := passive

.PHONY: setup demo test check format up lock clean

setup: $(STAMP) ## make .venv and install exactly what requirements.lock names

$(STAMP): requirements.lock bootstrap.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bootstrap.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: setup ## the whole product, shown: about a minute
	$(BIN)/razor demo

up: setup ## the service on this machine: API and one worker, data in ./data
	$(BIN)/razor up

test: setup ## the test suite, in two processes; uses PostgreSQL and Redis where they answer
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup ## format, lint, types, import arrows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header \
	--no-emit-index-url --quiet

lock: setup ## write requirements.lock anew from pyproject.toml, and the images' parts of it
	$(LOCK) --all-extras --python-version 3.11 --output-file requirements.lock
	$(LOCK) --extra service --extra s3 --extra cli --python-version 3.12 --no-annotate \
		--constraint requirements.lock --output-file docker/service.lock
	$(LOCK) --extra worker --extra s3 --python-version 3.12 --no-annotate \
		--constraint requirements.lock --output-file docker/worker.lock

clean: ## remove what was installed and made; data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
