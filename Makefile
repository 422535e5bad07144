PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --progress-bar off

.PHONY: demo test faults check voice clean

demo: .venv/installed ## speak the example sentences on this machine
	@.venv/bin/python -m jobs.demo

test: .venv/installed-dev ## the whole test suite
	.venv/bin/python -m pytest

faults: .venv/installed-dev ## break real things: processes, machines, storage, disks (a quarter of an hour)
	.venv/bin/python -m pytest -m faults tests

check: .venv/installed-dev ## format, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

voice: .venv/installed-dev ## train the built-in model anew (flite needed; hours); STATE keeps what is made
	$(MAKE) -C training voice PYTHON=$(CURDIR)/.venv/bin/python STATE=$(or $(STATE),$(CURDIR)/out/voice)

.venv/installed: requirements.txt pyproject.toml
	@echo "installing into .venv (some minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@$(PIP) -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv out
