# Everything a person types. `make help` lists it.
#
# Paths are relative, so that a project folder with spaces in its name works.
SHELL := /bin/sh
BIN := .venv/bin
PYTHON3 ?= python3
# SANDBOX=sandbox_supabase: everything on a database of the shape of a Supabase project.
SANDBOX ?= sandbox
SERVICES = .sandbox/$(if $(filter sandbox_supabase,$(SANDBOX)),supabase/)services

# An inherited setting that would make each start of Ansible twice as slow.
unexport PYTHONDONTWRITEBYTECODE
# Tools write below HOME, and Ansible below the home that the account database names; where either cannot be written,
# both get a folder here.
ifneq ($(shell test -w "$$HOME" && test -w "$$(eval echo ~$$(id -un))" && echo yes),yes)
export HOME := $(CURDIR)/.cache/home
export ANSIBLE_REMOTE_TMP := $(CURDIR)/.cache/home/tmp
$(shell mkdir -p .cache/home)
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup setup-test board demo change emergency certificates updates web monthly monitoring capacity backup verify restore drill logs doctor sandbox sandbox-stop sandbox-reset test lint unit molecule faults quarter matrix collection bench lock clean

help: ## List what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

setup: ## Make the virtual environment with all that a bastion and the sandbox need
	@$(PYTHON3) tools/setup.py

setup-test: ## The same, with what the tests need
	@$(PYTHON3) tools/setup.py --test

# With the services around a change, or without them, where a target says so; else as they are.
change emergency certificates capacity monitoring: AROUND = -e sandbox_services=true
updates web: AROUND = -e sandbox_application=true
demo monthly: AROUND = -e sandbox_services=false
sandbox: setup ## Start the sandbox: PostgreSQL, S3 API, a filled database
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/sandbox.yml $(AROUND)

sandbox-stop: setup ## Stop the sandbox; its database and its backups are kept
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/sandbox.yml -e sandbox_state=stopped

sandbox-reset: setup ## Recreate the sandbox: old data to archive again, and no backup
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/sandbox.yml -e sandbox_state=reset

demo: sandbox ## Weekly maintenance on the sandbox; says where the report is
	@echo "A second run finds little to do: make sandbox-reset brings the old data back, make sandbox-stop ends the servers."
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/weekly_db.yml
	@echo "Backups that prove themselves, on the same sandbox: make backup, then make verify, then make restore."

change: sandbox ## The weekly maintenance as a change: ticket, status page, team, silence, soak; starts these services
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/backup.yml
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/backup_verify.yml -e backup_verify_proof=true
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/weekly_db.yml
	@echo "Where to look at what it left outside; make sandbox-stop ends these services:"
	@cat $(SERVICES)/addresses.txt

emergency: sandbox ## An emergency, rehearsed: people told, maintenance mode, snapshot, half a minute for a fix by hand, review
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/emergency.yml -e emergency_kind=instability \
	  -e '{"emergency_reason": "a rehearsal"}' -e emergency_by_hand_s=30
	@cat $(SERVICES)/addresses.txt

UPDATES = $(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/updates.yml
MAJOR = -e app_updates_branch=runbook/major-page-router

updates: sandbox ## Packages of an application: an advisory, the update that repairs it, a major version; to the merged branch
	@$(UPDATES) --tags security
	@$(UPDATES) --tags weekly
	@$(UPDATES) --tags stage -e app_updates_branch=runbook/updates
	@$(UPDATES) --tags deploy -e app_updates_branch=runbook/updates
	@$(UPDATES) --tags monthly
	@$(UPDATES) --tags stage $(MAJOR)
	@$(UPDATES) --tags review $(MAJOR) -e '{"app_updates_reviewed_by": "Ada Byron"}'
	@$(UPDATES) --tags deploy $(MAJOR)
	@git -C .sandbox/application/repository.git log --graph --oneline main

WEB = $(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/performance.yml

web: sandbox ## Pages of an application by Lighthouse, its bundle and memory; then database, files, cache; last a page that leaks
	@$(BIN)/python -m tools.web_tools
	@$(WEB) --tags weekly
	@$(WEB) --tags monthly
	@echo "The same with a page that leaks, which has to be red:"
	@! $(WEB) --tags weekly -e sandbox_website_leaks=true

certificates: sandbox ## Check the certificate of a server of the sandbox; starts these services
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/certificates.yml

monthly: sandbox ## Monthly optimisation of the sandbox: bloat before and after, tables and indexes
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/monthly_db.yml

backup: sandbox ## Back the sandbox's database up to its S3 API
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/backup.yml

verify: sandbox ## Check the sandbox's newest backup, and prove it by restoring it into a scratch database
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/backup_verify.yml -e backup_verify_proof=true

restore: sandbox ## Restore the sandbox's newest backup into a new database beside the live one
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/restore.yml

drill: sandbox ## Kill a server of the drill's own while clients write to it, recover, measure, judge
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/dr_drill.yml

logs: sandbox ## Rotate a sample log of the sandbox, archive it and old audit rows, verify the archive, and find lines in it
	@$(BIN)/python -m tools.sample_log $(dir $(SERVICES))logs
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/logs.yml -e logs_force_rotation=true
	@rm -f $(dir $(SERVICES))logs/sandbox*.log
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/logs_find.yml -e logs_find_to=$(CURDIR)/$(dir $(SERVICES))logs \
	  -e logs_find_since=2020-01-01T00:00:00Z -e logs_find_until=2100-01-01T00:00:00Z \
	  -e '{"logs_find_pattern": "ERROR request", "logs_find_max_lines": 1000000}'

review: sandbox ## What slows the sandbox's database down, each finding with its fix
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/performance.yml

capacity: sandbox ## Where the sandbox goes in the next quarter, over half a year of invented metrics
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/capacity.yml

monitoring: sandbox ## What watches the sandbox, over thirty days of invented alerts; starts these services
	@echo "Somebody left a hole in the rota and renamed the metric of an alert, so this has to be red:"
	@! $(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/monitoring.yml

board: sandbox ## Renew runs/board.html, one page on every operation
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/board.yml

doctor: sandbox ## Check the sandbox's inventory: what is misspelt, not filled in, missing or not permitted
	@$(BIN)/ansible-playbook -i inventories/$(SANDBOX) playbooks/doctor.yml

test: setup-test ## Lint, unit, integration and fault tests, Molecule; ends with what could not be run and why
	@$(BIN)/python -m tools.run_tests

lint: setup-test ## Every check that needs no server
	@$(BIN)/python -m tools.run_tests --only lint

unit: setup-test ## The tests of the rules alone
	@$(BIN)/python -m pytest tests/unit

molecule: setup-test ## The playbooks against a database in a container
	@$(BIN)/python -m tools.run_tests --only molecule

faults: setup-test ## The long fault runs, which make test leaves out: random kills, outages, ten thousand tables; three quarters of an hour
	@$(BIN)/python -m pytest tests -m long

quarter: setup-test ## Thirteen weeks of schedules under a moved clock, with what goes wrong in them; an hour or two
	@PYTHONPATH=tests $(BIN)/python -u -m quarter

matrix: setup-test ## The integration tests on PostgreSQL 14 to 18, one after the other; an hour or more
	@$(BIN)/python -m tools.matrix

collection: setup ## The modules as a collection, in dist/
	@$(BIN)/python -m tools.collection

bench: setup-test ## The tables of bench/README.md; three hours, 40 GB, and nothing else should run meanwhile
	@$(BIN)/python -m bench.weekly
	@$(BIN)/python -m bench.monthly
	@$(BIN)/python -m bench.backup
	@$(BIN)/python -m bench.drill
	@$(BIN)/python -m bench.mirror
	@$(BIN)/python -m bench.certificates
	@$(BIN)/python -m bench.logs
	@$(BIN)/python -m bench.forecast
	@$(BIN)/python -m bench.monitoring
	@$(BIN)/python -m bench.board
	@$(BIN)/python -m bench.fleet

lock: ## Pin the newest releases that pyproject.toml admits; needs uv
	uv pip compile --universal --python-version 3.11 --no-header --upgrade --extra sandbox pyproject.toml -o requirements.txt
	uv pip compile --universal --python-version 3.11 --no-header --upgrade --extra sandbox --extra test \
	  -c requirements.txt pyproject.toml -o requirements-test.txt

clean: ## Remove the environment, caches and the sandbox; records of runs stay
	@test ! -x $(BIN)/ansible-playbook || for each in sandbox sandbox_supabase; do \
	  test ! -d .sandbox || $(BIN)/ansible-playbook -i inventories/$$each playbooks/sandbox.yml -e sandbox_state=stopped \
	  || exit; done
	rm -rf dist .venv .sandbox .cache .ansible .mypy_cache .pytest_cache .ruff_cache
