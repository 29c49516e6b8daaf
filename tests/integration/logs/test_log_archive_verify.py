"""log_archive_verify and log_archive_expire: a chain that shows what is missing, and what may go."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.rules.logs import chain
from conftest import S3, run_module
from log_archives import CLASSES, Place, lines


@pytest.fixture
def place(tmp_path, s3: S3) -> Place:
    """A chain of three archives; no versions, so that what is changed is changed."""
    made = Place.make(tmp_path, s3, versioned=False)
    for number in range(3):
        made.rotated(lines(20, begin=datetime(2024, 1 + number, 1, tzinfo=UTC)), number=number, days=2)
    assert not made.archive().failed
    return made


def _edit(place: Place) -> None:
    link = place.links()[1]
    link["content"]["lines"] = 19
    place.s3.client().put_object(Bucket=place.bucket, Key=place.keys("chain")[1], Body=json.dumps(link))


def _delete(place: Place, kind: str, number: int) -> None:
    place.s3.client().delete_object(Bucket=place.bucket, Key=place.keys(kind)[number])


def _exchange(place: Place) -> None:
    client, keys = place.s3.client(), place.keys("chain")
    bodies = [client.get_object(Bucket=place.bucket, Key=key)["Body"].read() for key in keys]
    for key, body in zip(keys[:2], reversed(bodies[:2]), strict=True):
        client.put_object(Bucket=place.bucket, Key=key, Body=body)


def _damage(place: Place) -> None:
    client, key = place.s3.client(), place.keys("data")[0]
    data = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    client.put_object(Bucket=place.bucket, Key=key, Body=data[:-9] + b"\0" + data[-8:])


def _forget(place: Place) -> None:
    next((place.folder / "state").rglob("*web*.json")).unlink()


@pytest.mark.parametrize(
    ("harm", "check", "status", "word"),
    [
        (_edit, "chain", "breach", "Link 2 was edited"),
        (lambda place: _delete(place, "chain", 1), "chain", "breach", "Link 2 is missing"),
        (lambda place: _delete(place, "chain", 2), "chain", "breach", "its end was cut off"),
        (_exchange, "chain", "breach", "in another's place"),
        (lambda place: _delete(place, "data", 1), "objects", "breach", "gone"),
        (_damage, "content", "breach", "damaged"),
        (_forget, "chain", "unknown", "does not know"),
    ],
)
def test_what_is_missing_edited_or_reordered_is_found(place, harm, check, status, word):
    sound = place.verify()
    assert (sound.failed, sound.result["status"], sound.result["read_archives"]) == (False, "ok", 3), sound.result
    harm(place)
    done = place.verify()
    found = {each["name"]: each for each in done.result["checks"]}
    assert (done.failed, found[check]["status"]) == (True, status)
    assert word in found[check]["msg"]


def test_a_chain_of_another_key_is_not_taken_for_ours(place):
    done = place.verify(seal_keys=["f" * 32])
    assert (done.failed, done.result["checks"][0]["status"]) == (True, "breach")
    rotated = place.verify(seal_keys=["f" * 32, *place.options()["seal_keys"]])
    assert (rotated.failed, rotated.result["status"]) == (False, "ok")


def _expire(place: Place, *, check: bool = False, **more: object):
    return run_module("log_archive_expire", place.options() | {"classes": CLASSES} | more, check=check, diff=check)


def test_what_is_over_goes_and_the_chain_says_so(place):
    # Archived today, so a year counts from today.
    assert _expire(place).result["expired_archives"] == 0
    classes = {"operational": {"hot_days": 0, "archive_days": 1}}
    _age(place, days=3)
    held = [{"name": "case-17", "reason": "a letter", "since": "2024-02-01T00:00:00Z", "until": "2024-02-02T00:00:00Z"}]
    misspelt = _expire(place, classes=classes, legal_holds=[held[0] | {"streams": ["ap"]}])
    assert (misspelt.failed, len(place.keys("data"))) == (True, 3), misspelt.result
    # Somebody is at work there.
    place.s3.client().create_multipart_upload(Bucket=place.bucket, Key="logs/web/data/app/now.zst")
    planned = _expire(place, check=True, classes=classes, legal_holds=held)
    assert [each["seq"] for each in planned.result["expired"]] == [1, 3]
    assert (len(place.keys("data")), len(place.keys("chain"))) == (3, 3)
    done = _expire(place, classes=classes, legal_holds=held)
    assert (done.failed, done.result["expired_archives"], done.result["held_archives"]) == (False, 2, 1), done.result
    assert [place.links()[3][name] for name in ("kind", "of")] == ["expiry", [1, 3]]
    assert place.keys("data") == [place.links()[1]["content"]["key"]]
    assert place.verify().result["status"] == "ok"
    again = _expire(place, classes=classes, legal_holds=held)
    assert (again.result["changed"], again.result["aborted_uploads"]) == (False, 0)
    assert len(place.s3.client().list_multipart_uploads(Bucket=place.bucket)["Uploads"]) == 1


def test_an_archive_that_does_not_count_goes_when_its_time_is_over(place):
    _add(place, kind="void", of=(2,), reason="the run was stopped", stream="app")
    _age(place, days=3)
    done = _expire(place, classes={"operational": {"hot_days": 0, "archive_days": 1}})
    assert (done.result["expired_archives"], place.keys("data")) == (3, []), done.result
    assert place.verify().result["status"] == "ok"


def test_an_unknown_class_is_never_deleted(place):
    _age(place, days=9000)
    done = _expire(place, classes={"audit": CLASSES["audit"]})
    assert (done.failed, done.result["status"], done.result["expired_archives"]) == (True, "unknown", 0)
    assert len(place.keys("data")) == 3


def test_of_two_classes_the_longer_counts(place):
    _age(place, days=400)
    assert _expire(place, check=True, streams={"app": "operational"}).result["expired_archives"] == 3
    assert _expire(place, check=True, streams={"app": "audit"}).result["expired_archives"] == 0


def _add(place: Place, **said: Any) -> None:
    """Add a link as a module does."""
    path = next((place.folder / "state").rglob("*web*.json"))
    document = json.loads(path.read_text())
    head = document["body"]
    link = chain.Link(seq=head["seq"] + 1, at=datetime.now(UTC), run_id="test", previous=head["seal"], **said)
    made = chain.Keys(place.options()["seal_keys"]).sealed(link)
    key = f"logs/web/chain/{made.seq:010d}.json"
    place.s3.client().put_object(Bucket=place.bucket, Key=key, Body=made.serialised())
    head |= {"seq": made.seq, "seal": made.seal}
    path.write_text(json.dumps(document))


def _age(place: Place, *, days: int) -> None:
    """Let the chain be older: seal its links again, with an earlier time."""
    keys, previous = chain.Keys(place.options()["seal_keys"]), ""
    at = datetime.now(UTC) - timedelta(days=days)
    for key in place.keys("chain"):
        data = place.s3.client().get_object(Bucket=place.bucket, Key=key)["Body"].read()
        found = chain.Link.parse(int(key.rpartition("/")[2][:10]), data, keys)
        made = keys.sealed(replace(found, at=at, previous=previous))
        place.s3.client().put_object(Bucket=place.bucket, Key=key, Body=made.serialised())
        previous = made.seal
    path = next((place.folder / "state").rglob("*web*.json"))
    document = json.loads(path.read_text())
    document["body"]["seal"] = previous
    path.write_text(json.dumps(document))
