"""The project keeps its arrows and habits; and each check of architecture.py can fail."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import architecture
import pytest
from ansible.module_utils.runbook.rules import requirements

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = "from ansible.module_utils.runbook"


@pytest.mark.parametrize("check", architecture.CHECKS, ids=lambda check: check.__name__)
def test_project_keeps(check):
    assert list(check(ROOT)) == []


def test_checks_see_the_project():
    """An empty list would also come from looking in the wrong place."""
    assert architecture.python_files(ROOT, "module_utils/runbook/rules")
    assert architecture.python_files(ROOT, "library")
    assert list(architecture.role_tasks(ROOT))
    assert list(architecture.plays(ROOT))
    assert ROOT / "ansible.cfg" in architecture.tracked_files(ROOT)


@pytest.mark.parametrize("folder", ["roles", "library", "module_utils"])
def test_playbooks_find_beside_them_what_they_use(folder):
    """From a folder without our ansible.cfg, Ansible looks there; and there is one link a folder, not one a file."""
    link = ROOT / "playbooks" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder


def test_what_runs_need_is_said_once():
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", each)[0]: each for each in said}
    # Barman is a program, which only some playbooks start.
    assert set(names) - {"ansible-core", "barman"} == set(requirements.PACKAGES.values())
    oldest, (major, minor) = requirements.CORES
    assert names["ansible-core"] == f"ansible-core>={oldest[0]}.{oldest[1]},<{major}.{minor + 1}"


PLAY = """
- name: P
  hosts: databases
  gather_facts: false
  environment: {RUNBOOK_HOST: "{{ inventory_hostname }}"}
"""
SPEC = "argument_specs: {main: {options: {r_days: {type: int, description: d, default: 90}}}}"
ENTER = PLAY + "  tasks:\n    - name: R\n      ansible.builtin.import_role: {name: r, tasks_from: release.yml}\n"
ON = "argument_specs: {main: {options: {r_on: {type: bool, description: d, default: true}}}}"
DAYS = "r_days: 90"
BUILT = "| built | `playbooks/gone.yml` | `docs/` | no |"
RULE, DRIVER = "module_utils/runbook/rules/x.py", "module_utils/runbook/drivers/x.py"
REPORT, RECORD = "module_utils/runbook/report/", "module_utils/runbook/rules/record.py"
DEFAULTS, ARGUMENTS, TASKS = "roles/r/defaults/main.yml", "roles/r/meta/argument_specs.yml", "roles/r/tasks/main.yml"

#: Good projects: nothing is found.
GOOD: list[dict[str, str]] = [
    {RULE: f"from pathlib import PurePath\n{RUNBOOK}.errors import RunbookError\n{RUNBOOK}.rules import y\n"},
    {DRIVER: f"import psycopg2, os\n{RUNBOOK}.rules.backup.swap import A, LIMIT\n{RUNBOOK}.drivers.s3 import s3\n"},
    {DRIVER: f"{RUNBOOK}.rules.identifiers import parse_qualified\n{RUNBOOK}.rules import identifiers\n"},
    {"module_utils/runbook/drivers/lease.py": f"{RUNBOOK}.rules.lease import decide\n"},
    {"library/a.py": f"import time\n{RUNBOOK}.module import run_module\n{RUNBOOK}.rules.drill import drill as d\n"},
    {"playbooks/p.yml": PLAY + "  tasks:\n    - name: R\n      ansible.builtin.import_role: {name: r}\n"},
    {"library/pg_x.py": "", REPORT + "sections/x.py": "MODULE = 'pg_x'\n", REPORT + "a.py": "NAME = 'pg_xy'\n"},
    {ARGUMENTS: SPEC, DEFAULTS: DAYS, TASKS: "[]"},
    {
        ARGUMENTS: ON,
        DEFAULTS: "r_on: true",
        TASKS: "- name: X\n  pg_x: {a: '{{ r_on }}', b: '{{ r_on | bool | ternary(1, 2) }}'}\n  when: a | r_on|bool\n",
    },
    {TASKS: "- name: X\n  pg_x:\n    a: '{{ r_days }}'\n  register: __r_x\n"},
    {RULE: 'def f(n, what):\n    return f"{n:,} bytes, {what} rows, {n:,.0f} rows/s, {len(n)} more"\n'},
    {RULE: "'No status is a breach.'\nx = f(state='ok')  # status ok\nlife: Life = 'unknown'\nmsg = 'status: ok'\n"},
    {"library/a.py": "RETURN = 'checks: {}'\ndef f(): return c.conclude(x, **{'status': y})\n"},
    {"library/a.py": "def f():\n    if x: raise E(**{'status': y})\n    return {'last': {'status': y}}\n"},
    {"a.py": "x = 1  # noqa: S101 - a reason that says why\ny = 2  # noqa: S101\n"},
    {"a.yml": "# The reason why this is so.\na: b  # noqa: yaml\n"},
]

#: Bad projects: the check, and a word of what it must say.
BAD: list[tuple[str, str, dict[str, str]]] = [
    ("check_rules_are_pure", "psycopg2", {RULE: "import psycopg2\n"}),
    ("check_rules_are_pure", "drivers", {RULE: f"{RUNBOOK}.drivers import postgres\n"}),
    ("check_rules_are_pure", "module", {RULE: f"def f():\n    {RUNBOOK} import module\n"}),
    ("check_rules_are_pure", "os", {RULE: "import os\n"}),
    ("check_rules_are_pure", "pathlib.Path;", {RULE: "from pathlib import Path\n"}),
    ("check_rules_are_pure", "clock", {RULE: "import datetime\nn = datetime.datetime.now()\n"}),
    ("check_rules_are_pure", "open", {RULE: "x = open('f')\n"}),
    ("check_drivers_do_not_decide", "cutoff", {DRIVER: f"{RUNBOOK}.rules.retention import cutoff\n"}),
    ("check_drivers_do_not_decide", "retention", {DRIVER: f"{RUNBOOK}.rules import retention\n"}),
    ("check_drivers_do_not_decide", "decide", {DRIVER: f"{RUNBOOK}.rules.lease import decide\n"}),
    ("check_drivers_do_not_decide", "below module", {DRIVER: f"{RUNBOOK}.module import Context\n"}),
    ("check_drivers_do_not_decide", "Ansible", {DRIVER: "from ansible.module_utils.urls import open_url\n"}),
    ("check_drivers_do_not_decide", "bloat", {DRIVER: f"{RUNBOOK}.rules.postgres import bloat\n"}),
    ("check_rooms", "no room", {"module_utils/runbook/rules/postgre/x.py": ""}),
    ("check_rooms", "no room", {"tests/unit/backup/s3/test_x.py": ""}),
    ("check_module_bridge", "psycopg2", {"library/a.py": "import psycopg2\n"}),
    ("check_module_bridge", "subprocess", {"library/a.py": "def f():\n    import subprocess\n"}),
    ("check_module_bridge", "boto3", {"library/a.py": "from boto3 import client\n"}),
    ("check_module_bridge", "bridge", {"library/a.py": "from ansible.module_utils.basic import AnsibleModule\n"}),
    ("check_module_bridge", "report", {"library/a.py": f"{RUNBOOK}.report import render\n"}),
    ("check_module_bridge", "AnsibleModule", {RULE: "from ansible.module_utils.basic import AnsibleModule\n"}),
    ("check_upper_layers", "nothing imports", {"library/pg_a.py": "", "tools/t.py": "import pg_a\n"}),
    ("check_upper_layers", "nothing imports", {"tests/t.py": "from library.pg_a import core\n"}),
    ("check_upper_layers", "drivers", {"module_utils/runbook/module.py": f"{RUNBOOK}.drivers import postgres\n"}),
    ("check_upper_layers", "module", {"module_utils/runbook/report/x.py": f"{RUNBOOK}.module import Progress\n"}),
    ("check_upper_layers", "drivers", {"playbooks/callback_plugins/c.py": f"{RUNBOOK}.drivers.s3 import x\n"}),
    ("check_report_names_no_module", "pg_x", {"library/pg_x.py": "", REPORT + "view.py": "MODULES = {'pg_x'}\n"}),
    ("check_report_names_no_module", "pg_x", {"library/pg_x.py": "", REPORT + "templates/a.html.j2": "{{ pg_x }}\n"}),
    ("check_report_names_no_module", "pg_x", {"library/pg_x.py": "", RECORD: "TOTALS = {'pg_x': ()}\n"}),
    ("check_one_import_name", "shared code", {"tests/t.py": "from module_utils.runbook.errors import RunbookError\n"}),
    ("check_one_import_name", "shared code", {RULE: "from .lease import decide\n"}),
    *(
        ("check_statuses", f"status '{word}' out; say Status.{word.upper()}", {path: code})
        for word, path, code in (
            ("ok", "library/a.py", "x = step['status'] != 'ok'\n"),
            ("unknown", RULE, "x = y.status in ('failed', 'unknown')\n"),
            ("unknown", RULE, "x = y.get('status') not in {'unknown'}\n"),
            ("ok", RULE, "x = {'a': 1, 'status': 'ok' if y else z}\n"),
            ("unknown", RULE, "f(status='unknown')\n"),
            ("ok", RULE, "a, status = b, 'ok'\n"),
            ("ok", RULE, "x['status']: str = str('ok')\n"),
            ("unknown", RULE, "for status in ['failed', 'unknown']:\n    f()\n"),
            ("ok", RULE, "def f(a, status='ok'): ...\n"),
            ("ok", RULE, "def f(*, status='ok'): ...\n"),
            ("ok", REPORT + "a.py", "x = {'ok': 1}.get(str(y['status']), 2)\n"),
            ("ok", REPORT + "a.py", "x = {'ok': 1}[status]\n"),
            ("breach", "playbooks/callback_plugins/a.py", "TONES = {'breach': 'failed'}\n"),
        )
    ),
    ("check_modules_conclude", "a.py:1: returns a status", {"library/a.py": "def f(): return a | {'status': b}\n"}),
    ("check_modules_conclude", "a.py:1: returns a status", {"library/a.py": "def f(): return c.told(x, status=b)\n"}),
    ("check_modules_conclude", "returns checks", {"library/a.py": "RETURN = 'findings: {type: list}'\n"}),
    ("check_sql_is_ascii", "ASCII", {DRIVER: "Q = 'SELECT 1 AS one, 2 AS \\'…\\''\n"}),
    ("check_tasks", "shell", {TASKS: "- name: X\n  ansible.builtin.shell: ls\n"}),
    ("check_tasks", "command", {TASKS: "- name: B\n  block:\n    - name: X\n      command: ls\n"}),
    ("check_tasks", "raw", {TASKS: "- name: X\n  action: raw ls\n"}),
    ("check_tasks", "script", {"playbooks/p.yml": PLAY + "  tasks:\n    - name: X\n      script: a.sh\n"}),
    ("check_tasks", "set_fact", {TASKS: "- name: X\n  ansible.builtin.set_fact: {a: 1}\n"}),
    ("check_tasks", "ignores errors", {TASKS: "- name: X\n  pg_x: {}\n  ignore_errors: true\n"}),
    ("check_tasks", "includes a role", {TASKS: "- name: X\n  include_role: {name: other}\n"}),
    ("check_tasks", "Jinja", {TASKS: "- name: X\n  pg_x: {a: '{% if b %}c{% endif %}'}\n"}),
    ("check_tasks", "without a name", {TASKS: "- pg_x: {a: 1}\n"}),
    ("check_tasks", "depends", {"roles/r/meta/main.yml": "dependencies: [other]\n"}),
    *(
        ("check_booleans", "add | bool", {
            ARGUMENTS: ON,
            TASKS: f"- name: X\n  pg_x: {{a: 1}}\n  when: {condition}\n",
        })
        for condition in ("r_on", "a and r_on", "[a, r_on]", "not r_on | default(true)")
    ),
    ("check_booleans", "add | bool", {
        ARGUMENTS: ON,
        TASKS: "- name: X\n  pg_x: {a: '{{ r_on | ternary(1, 2) }}'}\n",
    }),
    ("check_targets_are_pinned", "pg_x", {TASKS: "- name: X\n  pg_x: {login_host: '{{ db_login_host }}'}\n"}),
    ("check_counts", "'rows' is wrong", {RULE: 'def f(n):\n    return f"{n:,} dead rows"\n'}),
    ("check_counts", "'tables' is wrong", {RULE: 'def f(n):\n    return f"{len(n)} tables"\n'}),
    ("check_counts", "in brackets", {RULE: 'def f(n):\n    return f"{n} line(s) more"\n'}),
    ("check_plays", "gather_facts", {"playbooks/p.yml": "- name: P\n  hosts: localhost\n"}),
    ("check_plays", "RUNBOOK_HOST", {"playbooks/p.yml": "- name: P\n  hosts: databases\n  gather_facts: false\n"}),
    ("check_plays", "any_errors_fatal", {"playbooks/p.yml": PLAY + "  any_errors_fatal: true\n"}),
    ("check_role_arguments", "argument_specs", {DEFAULTS: DAYS}),
    ("check_role_arguments", "30", {ARGUMENTS: SPEC, DEFAULTS: "r_days: 30"}),
    ("check_role_arguments", "'90'", {ARGUMENTS: SPEC, DEFAULTS: "r_days: '90'"}),
    ("check_role_arguments", "none in defaults", {ARGUMENTS: SPEC, DEFAULTS: "{}"}),
    ("check_role_arguments", "r_more is in no", {ARGUMENTS: SPEC, DEFAULTS: "{r_days: 90, r_more: 1}"}),
    ("check_role_arguments", "templated", {ARGUMENTS: SPEC, DEFAULTS: "r_days: '{{ days }}'"}),
    ("check_role_arguments", "neither", {ARGUMENTS: SPEC.replace(", default: 90", ""), DEFAULTS: "{}"}),
    ("check_role_arguments", "required", {ARGUMENTS: SPEC.replace("default: 90", "required: true"), DEFAULTS: DAYS}),
    ("check_role_arguments", "lacks", {ARGUMENTS: SPEC.replace("type: int, ", ""), DEFAULTS: DAYS}),
    ("check_role_arguments", "type", {ARGUMENTS: SPEC.replace("int", "str"), DEFAULTS: DAYS}),
    ("check_role_arguments", "choices", {ARGUMENTS: SPEC.replace("int,", "int, choices: [1],"), DEFAULTS: DAYS}),
    ("check_role_arguments", "prefix", {ARGUMENTS: SPEC.replace("r_days", "days"), DEFAULTS: "days: 90"}),
    ("check_role_arguments", "uses tasks/release", {ARGUMENTS: SPEC, DEFAULTS: DAYS, "playbooks/p.yml": ENTER}),
    ("check_role_arguments", "no such file", {ARGUMENTS: SPEC, DEFAULTS: DAYS}),
    ("check_role_names", "days", {DEFAULTS: "days: 90"}),
    ("check_role_names", "out", {TASKS: "- name: X\n  pg_x: {}\n  register: out\n"}),
    ("check_role_names", "one", {TASKS: "- name: X\n  pg_x: {}\n  loop: []\n  loop_control: {loop_var: one}\n"}),
    ("check_role_names", "tmp", {TASKS: "- name: X\n  pg_x: {}\n  vars: {tmp: 1}\n"}),
    ("check_text", "pypi", {"README.md": "see pypi" + ".org for more\n"}),
    ("check_text", "home", {"a.yml": "path: /home" + "/ann/project\n"}),
    ("check_text", "root", {"a.py": "P = '/root" + "/.ssh'\n"}),
    ("check_words", "say fix", {"README.md": "What was found, and the cure.\n"}),
    ("check_words", "say live", {"a.py": "def drop(living_rows): ...\n"}),
    ("check_silenced", "form", {"a.py": "x = 1  # noqa\n"}),
    ("check_silenced", "why", {"a.py": "x = 1  # noqa: S101\n"}),
    ("check_silenced", "why", {"a.py": "x = 1  # type: ignore[misc]\n"}),
    ("check_silenced", "without a comment", {"a.yml": "a: b  # noqa: yaml\n"}),
    ("check_test_names", "same name", {"tests/unit/test_a.py": "", "tests/faults/test_a.py": ""}),
    ("check_runbook_map", "missing", {}),
    ("check_runbook_map", "Log Archival", {"docs/runbook.md": "### Log Archival\n| 1 | a | human | - | - | look |\n"}),
    ("check_runbook_map", "gone.yml", {"docs/runbook.md": f"## X\n| 1 | a {BUILT}\n"}),
    ("check_runbook_map", "names no file", {"docs/runbook.md": "## X\n| 1 | a | built | soon | `docs/` | no |\n"}),
    ("check_runbook_map", "state", {"docs/runbook.md": "## X\n| 1 | a | done | x | y | z |\n"}),
    ("check_runbook_map", "p.yml", {"docs/runbook.md": "# X\n", "playbooks/p.yml": PLAY}),
]  # fmt: skip


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize("files", GOOD, ids=",".join)
def test_good_project_passes(files, tmp_path):
    write(tmp_path, files)
    found = [text for check in architecture.CHECKS[:-1] for text in check(tmp_path)]
    assert [text for text in found if "argument_specs" not in text] == []


@pytest.mark.parametrize(("check", "word", "files"), BAD, ids=[f"{check}-{word}" for check, word, _ in BAD])
def test_bad_project_is_found(check, word, files, tmp_path):
    write(tmp_path, files)
    found = list(getattr(architecture, check)(tmp_path))
    assert any(word in text for text in found), found


def test_every_check_is_proven_able_to_fail():
    assert {check for check, _, _ in BAD} == {check.__name__ for check in architecture.CHECKS}


def _mappings(value):
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _mappings(each)


def test_each_bucket_may_be_behind_an_authority_of_ones_own():
    """A task that gives the keys of an S3 server gives the file of its authorities too."""
    given = [
        (path.parents[1].name, task.get("name"), name.removesuffix("secret_key"), mapping)
        for path, task in architecture.role_tasks(ROOT)
        for mapping in _mappings(task)
        for name in mapping
        if name.endswith("secret_key") and f"{name.removesuffix('secret_key')}bucket" in {*mapping, "source_bucket"}
    ]
    assert len(given) > 20
    # That of the second region is behind the authority of the first.
    lacks = [(role, task, prefix) for role, task, prefix, options in given
             if f"{prefix}aws_ca_bundle" not in options and prefix != "replica_"]  # fmt: skip
    assert lacks == []
