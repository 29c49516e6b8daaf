"""A proof is green only if everything was compared and agrees."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import proof
from ansible.module_utils.runbook.rules.backup.manifest import HashInfo, LargeObjects, SequenceEntry, TableEntry
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.content_hash import Content
from ansible.module_utils.runbook.rules.supabase.managed import narrowed
from manifest_samples import METHOD, manifest

#: The run that made a proof.
MADE = proof.Circumstances(datetime(2026, 11, 23, 4, 0, tzinfo=UTC), "r", 150004, 1.5, "ab")
A, B = QualifiedName("public", "a"), QualifiedName("public", "b")


def found(**changes: Any) -> proof.Found:
    """What a faithful restore holds."""
    said: dict[str, Any] = {
        "contents": {A: Content(3, "111"), B: Content(0, "0")},
        "errors": {},
        "large_objects": Content(0, "0"),
        "large_objects_error": "",
        "method": METHOD,
        "probe": "probe",
    }
    return proof.Found(**(said | changes))


def test_all_that_agrees_is_ok():
    judged = proof.judge(manifest(), found())
    assert judged.status == "ok"
    assert judged.rows == 3
    assert judged.named("ok") == ["public.a", "public.b", "large objects"]
    assert judged.sentence() == "All 3 comparisons agree with the backup (3 rows)."
    # A large object is no row, of which another sentence tells the number.
    with_objects = manifest(large_objects=LargeObjects(4, "44"))
    judged = proof.judge(with_objects, found(large_objects=Content(4, "44")))
    assert judged.sentence() == "All 3 comparisons agree with the backup (3 rows, 4 large objects)."


@pytest.mark.parametrize(
    ("changes", "status", "named"),
    [
        ({"contents": {A: Content(3, "112"), B: Content(0, "0")}}, "breach", "public.a"),
        ({"contents": {A: Content(4, "111"), B: Content(0, "0")}}, "breach", "public.a"),
        ({"contents": {A: Content(3, "111")}}, "breach", "public.b"),
        ({"contents": {A: Content(3, "111")}, "errors": {B: "it may not be read"}}, "unknown", "public.b"),
        ({"contents": {A: Content(3, None), B: Content(0, "0")}}, "unknown", "public.a"),
        ({"large_objects": Content(1, "5")}, "breach", "large objects"),
        ({"large_objects": None, "large_objects_error": "may not"}, "unknown", "large objects"),
        ({"contents": {A: Content(3, "111"), B: Content(0, "0"), QualifiedName("x", "y"): Content(0, "0")}}, "breach",
         "x.y"),
        ({"errors": {QualifiedName("x", "y"): "may not"}}, "breach", "x.y"),
    ],
)  # fmt: skip
def test_what_does_not_agree_is_named(changes, status, named):
    judged = proof.judge(manifest(), found(**changes))
    assert judged.status == status
    assert judged.named("differs" if status == "breach" else "unknown") == [named]
    assert named in judged.sentence()


@pytest.mark.parametrize(
    ("of_manifest", "of_server"),
    [
        ({"hash": HashInfo(METHOD, "none", "probe")}, {}),
        ({"hash": HashInfo(METHOD, "sampled", "probe")}, {}),
        ({}, {"probe": "another"}),
        ({"hash": HashInfo("of-the-future", "all", "probe")}, {"method": "of-the-future"}),
        ({"tables": (TableEntry("public", "a", None, None, 0), TableEntry("public", "b", 0, "0", 0))}, {}),
    ],
)
def test_what_was_not_compared_is_unknown_though_rows_agree(of_manifest, of_server):
    assert proof.judge(manifest(**of_manifest), found(**of_server)).status == "unknown"


def test_what_the_backup_is_known_to_be_without_stands_in_the_sentence_and_the_document():
    partly = manifest(missing=("the subscription s", "rows of ext.t"))
    judged = proof.judge(partly, found())
    assert judged.status == "ok"
    assert judged.sentence().endswith("Without the subscription s; without rows of ext.t.")
    written = proof.Document.of(judged, partly, MADE)
    assert list(proof.parse(written.to_bytes(), where="x").missing) == ["the subscription s", "rows of ext.t"]


def test_a_proof_from_before_such_things_were_said_is_read():
    written = proof.Document.of(proof.judge(manifest(), found()), manifest(), MADE)
    older = {key: value for key, value in json.loads(written.to_bytes()).items() if key != "missing"}
    assert proof.parse(json.dumps(older), where="x").status == "ok"


def test_a_backup_hashed_in_an_older_way_is_unknown_and_says_so():
    old = manifest(hash=HashInfo("record_send-hash64-sum", "all", "probe"))
    judged = proof.judge(old, found(contents={A: Content(3, "9"), B: Content(0, "9")}, method="record_send-hash64-sum"))
    assert judged.status == "unknown"
    assert "hashed as record_send-hash64-sum" in judged.sentence()


def test_a_wrong_count_is_seen_even_without_hashes():
    counted = manifest(hash=HashInfo(METHOD, "none", "probe"), tables=(TableEntry("public", "a", 4, None, 0),))
    assert proof.judge(counted, found(contents={A: Content(3, None)})).named("differs") == ["public.a"]


def test_nothing_at_all_is_no_proof():
    assert proof.Proof(()).status == "unknown"


def test_a_difference_outweighs_what_is_unknown():
    judged = proof.judge(manifest(), found(contents={A: Content(1, "1")}, errors={B: "may not"}))
    assert judged.status == "breach"


def write(judged: proof.Proof) -> proof.Document:
    """The document of a proof."""
    return proof.Document.of(judged, manifest(), MADE)


def test_the_document_is_read_as_it_was_written():
    document = write(proof.judge(manifest(), found(contents={A: Content(1, "1"), B: Content(0, "0")})))
    read = proof.parse(document.to_bytes(), where="s3://b/k")
    assert (read.status, read.backup_id, read.proven_at, read.compared, read.ok) == (
        "breach", "2026-11-23T03-00-00Z", "2026-11-23T04:00:00Z", 3, 2,
    )  # fmt: skip
    assert [each["table"] for each in read.tables] == ["public.a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is no proof"),
        (b"[]", "is no proof"),
        (b'{"schema_version": 1}', "is no proof"),
        (b'{"schema_version": 2}', "schema_version 2"),
    ],
)
def test_what_is_no_proof_is_refused(text, words):
    with pytest.raises(RunbookError, match=words):
        proof.parse(text, where="s3://b/k")


def test_a_status_that_means_nothing_is_refused():
    text = write(proof.judge(manifest(), found())).to_bytes().replace(b'"ok"', b'"fine"', 1)
    with pytest.raises(RunbookError, match="means nothing"):
        proof.parse(text, where="s3://b/k")


SEQUENCE = QualifiedName("public", "s")


@pytest.mark.parametrize(
    ("before", "after", "got", "status", "words"),
    [
        ("(5,t)", "(5,t)", "(5,t)", "ok", "and 1 sequence agree"),
        ("(1,f)", "(1,f)", "(1,f)", "ok", "agree"),
        ("(-5,t)", "(-9,t)", "(-7,t)", "ok", "agree"),
        ("(1,f)", "(9,t)", "(1,t)", "ok", "agree"),
        ("(5,t)", "(5,t)", "(1,f)", "breach", "public.s: the sequence is at 1 (not given out) instead of 5"),
        ("(1,t)", "(1,t)", "(1,f)", "breach", "at 1 (not given out) instead of 1"),
        ("(5,t)", "(9,t)", "(10,t)", "unknown", "is at 10, and went from 5 to 9"),
        ("(5,t)", "(5,t)", None, "breach", "the sequence is not there"),
    ],
)
def test_a_sequence_is_what_the_dump_may_carry(before, after, got, status, words):
    made = manifest(sequences=(SequenceEntry("public", "s", before, after),))
    judged = proof.judge(made, found(sequences={SEQUENCE: got} if got else {}))
    assert judged.status == status
    assert words in judged.sentence()


def test_sequences_that_nobody_read_are_said():
    assert "without the values of its sequences" in proof.judge(manifest(sequences=None), found()).sentence().lower()
    made = manifest(sequences=(SequenceEntry("public", "s", "(5,t)", "(5,t)"),))
    assert proof.judge(made, found()).status == "unknown"
    # Those that a database does not get are not compared.
    assert proof.judge(*narrowed(made, found(), lambda _schema, name: name != "s")).status == "ok"
