.PHONY: setup format lint test demo clean

SETUP := source scripts/environment.sh && ensure_installed dev
SHELL := bash

setup:
	$(SETUP)

format:
	$(SETUP) && ruff check --fix . && ruff format .

lint:
	$(SETUP) && ruff check . && ruff format --check . && mypy && lint-imports

test:
	bash scripts/test.sh

demo:
	bash scripts/demo.sh

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
