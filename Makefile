# Each recipe is a line that a person could type. `make` sets .venv up first, and again whenever
# setup.cfg or a lock has changed; what is up to date costs nothing. What is installed is what
# requirements/ names, file by file; `make lock` chooses anew, `make canary` tries the newest.
FITS := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2> /dev/null
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do $$p $(FITS) && echo $$p && break; done)
BIN := .venv/bin
INSTALL := pip install --quiet --require-hashes --only-binary :all:
COMPILE := .venv/lock/bin/uv pip compile --quiet --python .venv/lock/bin/python --no-build-isolation \
	--universal --python-version 3.11 --fork-strategy fewest --generate-hashes --upgrade \
	--annotation-style line --custom-compile-command 'make lock'

# Python keeps what it has compiled, whatever the machine says: the tests start hundreds of programs.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := demo
.PHONY: demo test check bench calibration soak audit lock canary docs clients wheel clean

demo: .venv/installed
	$(BIN)/bandits demo

# Everything, in random order, a worker for each of two cores: a third one costs more than the waits that it fills. Then
# the installed wheel, from another folder.
test: .venv/tested wheel
	$(BIN)/pytest --collect-only -q > build/collected.txt
	$(BIN)/pytest -n 2 --dist worksteal
	cd build/wheel && bin/python -m pytest -c ../../pyproject.toml ../../tests/house/test_installed.py

check: .venv/tested wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-wheel-contents --toplevel bandits,policies,simulations,storage,webapp dist
	$(BIN)/pip check
	$(BIN)/python -m simulations.policy_docs --check
	$(BIN)/python -m webapp.signals.kind_docs --check
	$(BIN)/pytest tests/house

# Beside other people's libraries. obp's pins are older than Python 3.11, so it gets its own folder.
bench: .venv/tested
	$(BIN)/$(INSTALL) -r requirements/bench.txt
	$(BIN)/$(INSTALL) --no-deps --upgrade --target .venv/peers -r requirements/obp.txt
	$(BIN)/python tests/benchmarks/run.py

# A figure for each claim that a page can show: error at every look, power, width. Fails where one errs
# more often than it may. `--campaigns 40` is a first look; tests/README.md explains the table.
calibration: .venv/tested
	$(BIN)/python tests/calibration/report.py

# The long forms of the tests; then all of them in bad weather, beside eight busy processes.
soak: .venv/tested wheel
	SOAK=1 $(BIN)/pytest -n 3 --dist worksteal -m soak --durations 40
	$(BIN)/python tests/calibration/report.py
	$(BIN)/python tests/busy.py 8 $(BIN)/pytest -n 4 --dist worksteal

# Asks PyPI what is known of the packages installed here; in a folder of its own, not to add to them.
audit: .venv/tested
	$(PYTHON) -m venv --clear .venv/audit
	.venv/audit/bin/$(INSTALL) -r requirements/audit.txt
	$(BIN)/pip freeze --exclude-editable > .venv/audit/installed.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/audit/installed.txt

# Chooses the newest versions that setup.cfg and pyproject.toml allow, and writes their hashes down.
# The same version of a package stands in every lock but obp's and the tools', each in its own folder.
lock:
	$(PYTHON) -m venv --clear .venv/lock
	.venv/lock/bin/$(INSTALL) -r requirements/lock.txt
	$(COMPILE) setup.cfg --group build --group intel-mac -o requirements/run.txt
	$(COMPILE) setup.cfg --extra test -c requirements/run.txt -o requirements/test.txt
	$(COMPILE) setup.cfg --extra check -c requirements/test.txt -c requirements/run.txt -o requirements/check.txt
	$(COMPILE) setup.cfg --extra bench -c requirements/check.txt -c requirements/test.txt -o requirements/bench.txt
	$(COMPILE) setup.cfg --extra postgres --group build -c requirements/test.txt -c requirements/run.txt -o requirements/postgres.txt
	$(COMPILE) --no-deps --group obp -o requirements/obp.txt
	$(COMPILE) --group audit -o requirements/audit.txt
	$(COMPILE) --group lock -o requirements/lock.txt

# Tries what a lock will hold next: the newest of everything, beside the .venv that is in use.
canary: .venv/tested
	$(PYTHON) -m venv --clear .venv/canary
	.venv/canary/bin/pip install --quiet --upgrade pip
	.venv/canary/bin/pip install --quiet --editable '.[test,check]'
	.venv/canary/bin/pytest -n 2

# The pages that are made from the code.
docs: .venv/installed
	$(BIN)/python -m simulations.policy_docs
	$(BIN)/python -m webapp.signals.kind_docs
	$(BIN)/python tests/house/command_line.py > docs/command-line.md
	$(BIN)/python tests/house/scenario_keys.py
	$(BIN)/python tests/house/rooms.py

# Clients for TypeScript and PHP, from the API's own description.
clients: .venv/tested
	$(BIN)/python tests/clients.py build/clients

wheel: .venv/tested
	rm -rf build dist
	$(BIN)/pyproject-build --wheel --no-isolation > build.log 2>&1 || { cat build.log; false; }
	$(BIN)/python -m venv --without-pip build/wheel
	$(BIN)/python -c 'import site; print(*site.getsitepackages())' > `echo build/wheel/lib/python3*/site-packages`/dependencies.pth
	$(BIN)/pip --python build/wheel install --quiet --no-deps dist/*.whl

clean:
	rm -rf .venv build dist build.log *.egg-info

.venv/installed: setup.cfg pyproject.toml requirements/run.txt
	@$(or $(PYTHON),false) $(FITS) || { echo 'Bandits needs Python 3.11, 3.12, 3.13 or 3.14: make PYTHON=/path/to/python3.11' >&2; false; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/$(INSTALL) -r requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/tested: .venv/installed requirements/test.txt requirements/check.txt tests/install-chromium tests/install-proxies tests/install-languages tests/install-debootstrap
	$(BIN)/$(INSTALL) -r requirements/test.txt -r requirements/check.txt
	tests/install-chromium
	tests/install-proxies
	tests/install-languages
	tests/install-debootstrap
	touch $@
