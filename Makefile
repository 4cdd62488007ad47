# `make run` and `make test` need Python 3.11 or newer and nothing else; `make help` lists the rest.

.DEFAULT_GOAL := help
.PHONY: help run test test-postgres test-deep lint format screenshots all-screenshots bench release-check demo-cluster clean anew

VENV := .venv
# The interpreter that .venv is made from: the first of these that is new enough. Say another: make test PYTHON=python3.14
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# More words for pytest: make test ARGS="-k journal -x"; or for the comparison: make bench ARGS="--sizes 1000,1000000"
ARGS ?=

# One that is named on the command line is the one that is used: a .venv of another is made anew.
OTHER :=
ifeq ($(origin PYTHON),command line)
OTHER := $(shell \
  which='import sys; print(sys.version.split()[0], sys.implementation.name, sys.base_prefix)'; \
  for candidate in $(PYTHON); do wanted=$$("$$candidate" -c "$$which" 2>/dev/null) && break; done; \
  [ "$$wanted" = "$$($(VENV)/bin/python -c "$$which" 2>/dev/null)" ] || echo yes)
endif

# `make run BIND=… DATA=… CONFIG=…` reach covenq as its own variables, untouched by a shell. Variables of these names
# that merely happen to be in the environment are not meant for us.
ifeq ($(origin BIND),command line)
export COVENQ_BIND := $(BIND)
endif
ifeq ($(origin DATA),command line)
export COVENQ_DATA := $(DATA)
endif
ifeq ($(origin CONFIG),command line)
export COVENQ_CONFIG := $(CONFIG)
endif

help:
	@echo 'make run             start covenq on 127.0.0.1:8787 (BIND= DATA= CONFIG=)'
	@echo 'make test            run the tests'
	@echo 'make test-postgres   run the tests of a journal in PostgreSQL, where that is'
	@echo 'make test-deep       run the tests that take minutes to hours'
	@echo 'make demo-cluster    two nodes lose one part of it all after another'
	@echo 'make lint            check formatting, lint, types and who imports whom'
	@echo 'make format          format the code'
	@echo 'make screenshots     make the pictures of the dashboard in man/screenshots anew'
	@echo 'make all-screenshots each screen in 3 sizes and 5 palettes (ARGS="080x24 light")'
	@echo 'make bench           compare covenq with what one would glue together (15 min)'
	@echo 'make release-check   build wheel and sdist, and examine them (TAG=v1.2.3)'
	@echo 'make clean           remove .venv and the caches'

run: $(VENV)/.installed
	@exec $(VENV)/bin/covenq serve

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m 'not deep and not postgres' $(ARGS)

test-postgres: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n auto --dist worksteal --engine postgres -m 'not deep' $(ARGS)

test-deep: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -n auto -m deep $(ARGS)

demo-cluster: $(VENV)/.installed-test
	$(VENV)/bin/python -m tests.e2e.demo_cluster

lint: $(VENV)/.installed-lint
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy journal covenq
	$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.installed-lint
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

screenshots: $(VENV)/.installed-test
	$(VENV)/bin/python tests/support/screenshots.py man/screenshots

all-screenshots: $(VENV)/.installed-test
	$(VENV)/bin/python tests/support/all_screenshots.py build/screenshots $(ARGS)

release-check: $(VENV)/.installed-test $(VENV)/.installed-release
	$(VENV)/bin/python tests/e2e/release.py --tag '$(TAG)'

# Ratios of one run, each side by side with what it is compared to: measure where nothing else runs.
bench: $(VENV)/.installed-bench
	$(VENV)/bin/python -m tests.bench.compare man $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The checkout itself is installed (editable), so only a change of pyproject.toml asks for a new install.
$(VENV)/.installed: pyproject.toml $(if $(OTHER),anew)
	@if [ -n "$(OTHER)" ] || ! $(VENV)/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  found=; seen=; \
	  for candidate in $(PYTHON); do \
	    said=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    seen="$${seen:+$$seen, }$$candidate is $$said"; \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      found=$$candidate; version=$$said; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "covenq needs Python 3.11 or newer ($${seen:-no Python found}): install one, or name one with PYTHON=/path/to/python3." >&2; \
	    exit 1; \
	  fi; \
	  if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$found ($$version) has no venv module: install it (on Debian and Ubuntu: apt install python$$version-venv), then repeat." >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$found ($$version)" >&2; \
	  "$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo 'Installing covenq and what it needs into $(VENV)' >&2
	@$(PIP) install --editable '.[github]'
	@touch $@

# Dependency groups need pip 25.1, newer than the one many Pythons bring.
$(VENV)/.installed-test: $(VENV)/.installed
	@echo 'Installing what the tests need' >&2
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group test
	@touch $@

$(VENV)/.installed-release: $(VENV)/.installed
	@echo 'Installing what the check of a release needs' >&2
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group release
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	@echo 'Installing what the checks need' >&2
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group lint
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo 'Installing what covenq is measured beside' >&2
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --group bench
	@touch $@
