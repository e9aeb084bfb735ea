.PHONY: setup format lint test demo clean

setup:
	bash -c 'source scripts/environment.sh && pip install --quiet -e ".[dev]"'

format: setup
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .

lint: setup
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

test:
	bash scripts/test.sh

demo:
	bash scripts/demo.sh

clean:
	rm -rf .venv demo *.egg-info
