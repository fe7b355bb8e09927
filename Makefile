# Postkeep. `make run` and `make test` set themselves up on a bare Debian machine.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/pytest -c server/pyproject.toml --rootdir .
OFFSET ?= 10000
DATA ?= var

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 18

# --- set-up ---------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.ready ## Only the set-up: .venv with the locked dependencies

# What has no wheel (netifaces, python-packer) is built with the locked setuptools, not with whatever is newest.
LOCKS := server/requirements-build.lock server/requirements-dev.lock
PACKAGES := server appliance console
PYTHON := server appliance console ovf packer tests

$(VENV)/.ready: $(LOCKS) $(PACKAGES:%=%/pyproject.toml) .ci/apt
	@.ci/apt python
	test -x $(BIN)/python || $$(.ci/apt which-python) -m venv $(VENV)
	$(foreach lock,$(LOCKS),$(PIP) --require-hashes --no-build-isolation -r $(lock) &&) true
	$(PIP) --no-deps --no-build-isolation $(PACKAGES:%=--editable %)
	@touch $@

.PHONY: clients
clients: ## The mail clients from Debian that the tests drive
	@.ci/apt clients

# --- run ------------------------------------------------------------------------------------------

.PHONY: run
run: setup ## Serve the demo domain example.test under ./var (ports + 10000)
	@exec $(BIN)/postkeep demo --data $(DATA) --port-offset $(OFFSET)

.PHONY: console
console: setup ## The boot console on this terminal, over an agent that only pretends (Ctrl+C ends it)
	@mkdir -p build/console; rm -f build/console/agent.sock; \
	$(BIN)/postkeep-agent --dry-run --socket build/console/agent.sock 2>build/console/agent.log & agent=$$!; \
	trap 'kill $$agent 2>/dev/null || true' EXIT; \
	$(BIN)/postkeep-console --leave --socket build/console/agent.sock

# --- tests ----------------------------------------------------------------------------------------

.PHONY: test
test: setup clients ## All tests but the long ones
	$(PYTEST) -n 2 --dist worksteal -m 'not crash and not deb and not image' tests

.PHONY: check
check: setup ## Lint, types, layers
	$(BIN)/ruff format --check --config server/pyproject.toml $(PYTHON)
	$(BIN)/ruff check --config server/pyproject.toml $(PYTHON)
	$(BIN)/mypy --config-file server/pyproject.toml server/postkeep appliance/postkeep_appliance console/postkeep_console ovf
	cd server && ../$(BIN)/lint-imports
	@.ci/apt lint
	shellcheck appliance/vmware/*

.PHONY: format
format: setup ## Put all Python into its one layout
	$(BIN)/ruff format --config server/pyproject.toml $(PYTHON)
	$(BIN)/ruff check --fix --config server/pyproject.toml $(PYTHON)

.PHONY: test-crash
test-crash: setup ## Kill the engine 50 times under load, cut the power at 300 points
	$(PYTEST) -s -m crash tests/crash

.PHONY: bench
bench: bench-smtp bench-idle ## All measurements

.PHONY: bench-smtp
bench-smtp: setup ## Durable messages a second, beside Postfix + Dovecot and a bare ceiling
	@.ci/apt peers
	$(BIN)/python -m tests.bench.smtp

.PHONY: bench-idle
bench-idle: setup ## Memory of 2,000 idle IMAP connections
	$(BIN)/python -m tests.bench.idle

.PHONY: bench-profile
bench-profile: setup ## Where the CPU time of one delivery goes
	$(BIN)/python -m tests.bench.profile

# --- the product ----------------------------------------------------------------------------------

.PHONY: deb
deb: setup ## Both Debian packages into build/deb (as root: a chroot is made)
	@.ci/apt deb
	@$(BIN)/python appliance/debian/build.py

.PHONY: test-deb
test-deb: setup ## Install, upgrade, roll back, remove the packages in a chroot
	$(PYTEST) -v -m deb tests/image/deb

.PHONY: appliance
appliance: setup ## OVF, OVA and VMX with the server inside, in build/appliance (FAST=1: no virtual machine; as root)
	@.ci/apt image
	@$(if $(FAST),true,command -v packer >/dev/null || .ci/apt packer)
	@$(BIN)/python packer/build.py $(if $(FAST),--fast) $(if $(FORCE),--force) $(if $(LOCKED),--locked) $(if $(LOCK),--lock)

.PHONY: ovf
ovf: setup ## Only the packing: from build/image/system.qcow2 to build/appliance
	@.ci/apt image
	@$(BIN)/python -m ovf.build

.PHONY: check-ovf
check-ovf: setup ## Check build/appliance by own eyes, virt-v2v, govmomi, libvirt, qemu-img
	@.ci/apt checkers
	@$(BIN)/python -m ovf.validate

.PHONY: boot
boot: setup ## Boot the built appliance in QEMU, changes thrown away (DISPLAY: its screen; else the serial console)
	@.ci/apt image
	@$(BIN)/python -m tests.image.boot

.PHONY: test-image
test-image: setup ## Boot the built appliance, use it from outside, break it (made by FAST=1 if there is none)
	@.ci/apt image
	@.ci/apt checkers
	@.ci/apt clients
	@ls build/appliance/postkeep-*.ova >/dev/null 2>&1 || $(MAKE) --no-print-directory appliance FAST=1
	$(PYTEST) -v -s -m image tests/image

.PHONY: clean
clean: ## Remove what was built (not var/)
	rm -rf $(VENV) build .mypy_cache .ruff_cache .import_linter_cache .hypothesis
