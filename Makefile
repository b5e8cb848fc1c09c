# Two commands do everything: `make demo` runs the main job, `make test` passes the tests.
# Both create .venv from constraints.txt on first use and keep every file inside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where torch comes from instead of PyPI, for example https://download.pytorch.org/whl/cpu: the same without CUDA.
TORCH_INDEX ?=
# Tests side by side: twice as many as cores, since most of them wait for a server half of the time. More than six gain little.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(6, 2 * (os.cpu_count() or 1)))')

# Shows each download with its size and progress.
PIP = $(BIN)/python -m pip install --no-color --progress-bar on --constraint constraints.txt

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --no-loadscope-reorder

.PHONY: help demo test test-slow lint types imports unit radosgw celery edge kubernetes chromium docs pages compat dist wheel constraints clean install

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; call make with PYTHON=/path/to/python3.11")'
	@echo "The first time: a virtual environment in $(VENV), about $(if $(TORCH_INDEX),2,7) GB on the disk. Downloads, each shown with its size:"
	@echo "  1. PyTorch, $(if $(TORCH_INDEX),about 0.2 GB from $(TORCH_INDEX),about 3 GB with CUDA; 0.2 GB with TORCH_INDEX=https://download.pytorch.org/whl/cpu)"
	@echo "  2. Airflow and the rest of constraints.txt, $$(grep -c '==' constraints.txt) packages of about 0.5 GB"
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	@$(PIP) $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) torch
	@$(PIP) --editable . --group dev
	@touch $@

install: $(STAMP) ## the virtual environment, nothing else

demo: $(STAMP) ## runs the main DAG on a small drawn clip; KEEP=1 leaves everything running. The next one has the same S3, history and ports
	@$(BIN)/python -m tools.demo $(if $(KEEP),--keep)

test: lint types imports ## all checks, and the tests that are quick or fail most
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(STAMP) ## the tests that take long and rarely fail: pages in a browser, releases, many kills, many odd answers
	$(PYTEST) -m slow $(ARGS)
	MODELSLAB_ODD_EXAMPLES=2000 $(PYTEST) tests/integration/odd_answers $(ARGS)

unit: $(STAMP) ## the tests that need no Airflow processes
	$(BIN)/python -m pytest -m "not system" $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell --dictionary=- --dictionary=tools/vocabulary/words.txt
	$(BIN)/codespell --dictionary=tools/vocabulary/phrases.txt --regex "$$(sed 's/->.*//' tools/vocabulary/phrases.txt | paste -sd '|')"

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

radosgw: $(STAMP) ## the ledger and landing against Ceph's S3 (installs Debian packages, as root)
	tools/radosgw/install.sh
	MODELSLAB_TEST_RADOSGW=1 $(BIN)/python -m pytest tests/integration/storage tests/integration/ledger -k radosgw $(ARGS)

celery: $(STAMP) ## the same Dags on CeleryExecutor, with Redis and PostgreSQL (installs Debian packages, as root)
	tools/services/install.sh celery redis postgresql
	$(BIN)/python -m pip install -qq --constraint constraints.txt --group celery
	MODELSLAB_TEST_CELERY=1 $(BIN)/python -m pytest tests/system/test_celery.py $(ARGS)

edge: $(STAMP) ## the same Dags on EdgeExecutor, with PostgreSQL (installs a Debian package, as root)
	tools/services/install.sh edge postgresql
	$(BIN)/python -m pip install -qq --constraint constraints.txt --group edge
	MODELSLAB_TEST_EDGE=1 $(BIN)/python -m pytest tests/system/test_edge.py $(ARGS)

kubernetes: $(STAMP) ## the same Dags on KubernetesExecutor, against an API server whose pods are processes
	$(BIN)/python -m pip install -qq --constraint constraints.txt --group kubernetes
	MODELSLAB_TEST_KUBERNETES=1 $(BIN)/python -m pytest tests/system/test_kubernetes.py $(ARGS)

chromium: ## a browser for the tests of pages, which are skipped without one (installs a Debian package, as root)
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core)

docs: $(STAMP) ## the documentation site, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -E -a -b html docs docs/_build/html

pages: $(STAMP) ## writes the generated parts of docs/ (tables, examples, figures)
	$(BIN)/python -m tools.pages

compat: ## another Airflow, in .venv-<version>: modules, tests, and Dags from end to end; VERSION=3.1, 3.2, 3.3 or 3.4; NEWEST=1
	PYTHON=$(PYTHON) tools/compat/run.sh $(or $(VERSION),3.1) $(ARGS)

dist: $(STAMP) ## sdist and wheel, checked
	$(BIN)/python -m tools.release.dist dist

wheel: $(STAMP) ## the wheel in an empty environment: what Airflow lists of it
	$(BIN)/python -m tools.release.check_wheel

constraints: $(STAMP) ## writes what is installed to constraints.txt
	@{ echo "# What the two commands of the README install, pinned. Regenerate with \`make constraints\`."; \
	   echo "torch==2.13.0"; \
	   $(BIN)/python -m pip freeze --exclude-editable | grep -ivE '^(torch|pip|setuptools)[= ]'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## removes everything that the other targets made
	rm -rf $(VENV) .state demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis docs/_build .venv-*
