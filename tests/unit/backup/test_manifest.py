"""Manifests: what is written is read again, and what is not exactly one is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import manifest as rules

BACKUP = "2026-11-23T03-00-00Z"
HOME = f"here/shop/{BACKUP}/"

SOURCE = rules.Source(
    system_identifier="7", database="shop", server_version="18.6", server_version_num=180006, encoding="UTF8",
    collate="C", ctype="C", locale_provider="libc", icu_locale=None, owner="postgres",
    snapshot_at="2026-11-23T03:00:01+00:00", lsn="0/1", size_bytes=1,
)  # fmt: skip
GOOD = rules.Manifest(
    schema_version=1, backup_id=BACKUP, kind="logical", started_at="2026-11-23T03:00:00+00:00",
    finished_at="2026-11-23T03:00:09+00:00", duration_s=9, source=SOURCE,
    tools=rules.Tools("18.6", "x", "zstd:1", "none"), roles=("app", "postgres"),
    extensions=(rules.Extension("citext", "1.6", "public"),),
    objects=(
        rules.Object(HOME + "data-00.dump.zst", "data", 0, 0, 10, "a", "v"),
        rules.Object(HOME + "data-00.dump.zst.0001", "data", 0, 1, 5, "b", None),
        rules.Object(HOME + "schema.dump.zst", "schema", 0, 0, 3, "c", None),
    ),
    tables=(rules.TableEntry("public", "ü \"x\"", 3, "-5", 8192), rules.TableEntry("public", "y", None, None, 0)),
    large_objects=rules.LargeObjects(0, "0"), hash=rules.HashInfo("m", "all", "1"), dump_bytes=100,
    warnings=("no roles",),
)  # fmt: skip


def signed(content: dict[str, Any]) -> str:
    return json.dumps(content | {"sha256": rules.self_digest(content)})


def changed(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOOD.to_bytes())
    content.update(changes)
    return content


def test_what_is_written_is_read_again():
    assert rules.parse(GOOD.to_bytes(), where="m") == GOOD
    assert GOOD.size_bytes == 18
    assert [each.part for each in GOOD.data_streams()[0]] == [0, 1]
    assert GOOD.one("globals") is None


def test_a_key_more_is_no_harm():
    """A later version of the project may add one without a new schema_version."""
    assert rules.parse(signed(changed(later="x")), where="m") == GOOD


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON object"),
        ("[]", "no JSON object"),
        (b"\xff\xfe\x00", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        (GOOD.to_bytes()[:-20], "no JSON object"),
        (GOOD.to_bytes().replace(b'"rows": 3', b'"rows": 4'), "its own SHA-256"),
        (json.dumps(changed(sha256=None)), "its own SHA-256"),
        (signed(changed(schema_version=2)), "schema_version 2, this project reads up to 1"),
        (signed(changed(schema_version="1")), "schema_version is '1'"),
        (signed(changed(schema_version=True)), "schema_version is True"),
        (signed({key: value for key, value in changed().items() if key != "tables"}), "lacks tables"),
        (signed(changed(kind="physical")), "'physical', which this project does not know"),
        (signed(changed(dump_bytes="many")), "manifest.dump_bytes is str, not int"),
        (signed(changed(dump_bytes=-1)), "negative"),
        (signed(changed(dump_bytes=True)), "bool"),
        (signed(changed(roles={})), "manifest.roles is no list"),
        (signed(changed(source=[])), "manifest.source is no object"),
        (signed(changed(backup_id="../..")), "no UTC time"),
        (signed(changed(backup_id="2026-11-24T03-00-00Z")), "of another backup"),
        (signed(changed(objects=[])), "no schema or no data"),
    ],
)
def test_what_is_not_exactly_one_is_refused(text, says):
    with pytest.raises(RunbookError) as refused:
        rules.parse(text, where="s3://b/manifest.json")
    assert refused.value.message.startswith("s3://b/manifest.json")
    assert says in refused.value.message
    assert "\n" not in refused.value.message


def test_objects_that_contradict_each_other():
    first, second, schema = GOOD.objects
    table = GOOD.tables[0]
    for wrong, says in (
        ({"objects": (first, first, schema)}, "an object stands in it twice"),
        ({"objects": (second, schema)}, "data stream 0 lacks a segment"),
        ({"tables": (table, table)}, "a table stands in it twice"),
        ({"objects": (first, second)}, "no schema or no data"),
    ):
        with pytest.raises(RunbookError, match=says):
            rules.parse(dataclasses.replace(GOOD, **wrong).to_bytes(), where="m")


def test_names():
    tokyo = timezone(timedelta(hours=9))
    assert rules.backup_id(datetime(2026, 11, 23, 12, 0, 0, 999, tzinfo=tokyo)) == BACKUP
    assert rules.started_at(BACKUP) == datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert rules.is_backup_id(BACKUP)
    for no in ("2026-13-23T03-00-00Z", "2026-11-23", BACKUP + "x", "..", ""):
        assert not rules.is_backup_id(no)
    assert rules.folder("/here/", "shop", BACKUP) == HOME
    assert rules.folder("", "a/b%", BACKUP) == f"a%2Fb%25/{BACKUP}/"


ODD_NAMES = [
    ".", "..", "...", "a.b", ".a", "a/b", "a\\b", "a%b", "a%2Fb", " a", "a ", " ", "a b", "a\tb", "a\nb", "a\u202eb",
    "\u00e4", "a\u0308", "a\u00a0", "a?b", "a#b", "a&b", "a+b", "a:b", '"', "'", "a//b", "A", "a", "%2E",
]  # fmt: skip


def test_every_name_of_a_database_is_one_part_of_a_key_and_can_be_read_back():
    written = [rules.folder_name(name) for name in ODD_NAMES]
    assert [unquote(each) for each in written] == ODD_NAMES
    assert len({unicodedata.normalize("NFC", each).strip() for each in written}) == len(ODD_NAMES)
    for each in written:
        assert not set(each) & set("/\\\n\t")
        assert each.strip(".")


def test_where_earlier_versions_put_it_is_looked_at_too():
    assert rules.database_folders("", "shop") == ["shop/"]
    assert rules.database_folders("p", "a\\b") == ["p/a%5Cb/", "p/a\\b/"]
    assert rules.database_folders("p", "..") == ["p/%2E%2E/"]
