# Every target is one line that a person could type, after `make .venv` has set the project up.
PYTHON ?= python3.11
BIN := .venv/bin
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD := 1

.PHONY: demo test check bench soak clean
.DEFAULT_GOAL := demo

demo: .venv/installed
	$(BIN)/bandits demo

test: .venv/tested
	$(BIN)/pytest -n 2 -q

check: .venv/tested
	$(BIN)/python -m tests.check

bench: .venv/tested
	$(BIN)/python tests/benchmarks/run.py

soak: .venv/tested
	SOAK=1 $(BIN)/pytest -n 2 -q

clean:
	rm -rf .venv build dist *.egg-info

.venv/installed: setup.cfg pyproject.toml
	$(shell command -v $(PYTHON) || echo python3) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --editable '.[test,check,postgres]'
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)
	touch $@
