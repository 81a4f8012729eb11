# Each recipe is a line that a person could type. `make` sets .venv up first, and again whenever
# setup.cfg has changed; what is up to date costs nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := demo
.PHONY: demo test check bench soak audit docs wheel clean

demo: .venv/installed
	$(BIN)/bandits demo

# Everything, in random order on two cores; then the installed wheel, from another folder.
test: .venv/tested wheel
	$(BIN)/pytest -n 2
	cd build/wheel && bin/python -m pytest -c ../../pyproject.toml ../../tests/house/test_installed.py

check: .venv/tested wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-wheel-contents --toplevel bandits,policies,simulations,storage,webapp dist
	$(BIN)/pip check
	$(BIN)/python -m simulations.policy_docs --check
	$(BIN)/pytest tests/house

# Beside other people's libraries. obp's pins are older than Python 3.11, so it gets its own folder.
bench: .venv/tested
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/peers 'obp==0.4.1'
	$(BIN)/python tests/benchmarks/run.py

soak: .venv/tested wheel
	SOAK=1 $(BIN)/pytest -n 2

# Asks PyPI what is known of the packages installed here; in a folder of its own, not to add to them.
audit: .venv/tested
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/pip install --quiet pip-audit
	$(BIN)/pip freeze --exclude-editable > .venv/audit/installed.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/audit/installed.txt

# The pages that are made from the code.
docs: .venv/installed
	$(BIN)/python -m simulations.policy_docs
	$(BIN)/python tests/house/command_line.py > docs/command-line.md
	$(BIN)/python tests/house/scenario_keys.py

wheel: .venv/tested
	rm -rf build dist
	$(BIN)/pyproject-build --wheel --no-isolation > build.log 2>&1 || { cat build.log; false; }
	$(BIN)/python -m venv --without-pip build/wheel
	$(BIN)/python -c 'import site; print(*site.getsitepackages())' > `echo build/wheel/lib/python3*/site-packages`/dependencies.pth
	$(BIN)/pip --python build/wheel install --quiet --no-deps dist/*.whl

clean:
	rm -rf .venv build dist build.log *.egg-info

.venv/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed tests/install-chromium
	$(BIN)/pip install --quiet --editable '.[test,check]'
	tests/install-chromium
	touch $@
