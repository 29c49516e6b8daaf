"""What every module does through ``module.py``, shown on real modules."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from conftest import ROOT, run_module

if TYPE_CHECKING:
    from conftest import Database


def test_nothing_is_written_once_the_record_is_lost(database: Database) -> None:
    database.run("CREATE TABLE public.t (id int)", "INSERT INTO public.t VALUES (1)")
    lost = "the disk of runs/ is full; make room."
    done = run_module("pg_vacuum", database.login | {"mode": "all"}, RUNBOOK_JOURNAL_ERROR=lost)
    assert done.failed
    assert done.result["msg"].endswith(lost)
    assert not done.result["changed"]
    assert database.one("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 't'") == 0
    # Looking is still allowed, and so is giving back a lease.
    assert not run_module("pg_vacuum", database.login | {"mode": "all"}, check=True, RUNBOOK_JOURNAL_ERROR=lost).failed
    assert not run_module("pg_lease", database.login, RUNBOOK_JOURNAL_ERROR=lost).failed


def test_an_unforeseen_error_shows_neither_its_text_nor_a_secret() -> None:
    code = f"""
import sys, json
import ansible.module_utils as m; m.__path__.append({str(ROOT / "module_utils")!r})
import ansible.module_utils.basic as b
b._ANSIBLE_ARGS = json.dumps({{"ANSIBLE_MODULE_ARGS": {{}}}}).encode(); b._ANSIBLE_PROFILE = "legacy"
from ansible.module_utils.runbook.module import run_module
def core(context):
    raise ValueError("Key (email)=(canary@example.com) already exists")
run_module(core, name="some_module", argument_spec={{}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "canary" not in done.stdout + done.stderr
    assert "some_module stopped at" in done.stdout
    assert "ValueError" in done.stdout
