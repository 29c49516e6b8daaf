"""The state store: what a document is, and the folder that keeps them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.drivers.state_store import Bucket, ConflictError, Folder
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import state as rules
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def document(name: str = "leases/vercel", mark: str = "t1", run_id: str = "run-1", **body: Any) -> rules.Document:
    return rules.Document(name, body, run_id, "bastion/42", "2026-03-01T02:00:00Z", mark)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def folder(root: Path) -> Folder:
    return Folder(root, "sandbox")


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_written():
    written = document(phase=3, until=None, names=["a", "ä"])
    assert rules.parse(written.name, rules.serialise(written)) == written


@pytest.mark.parametrize("name", [
    "", "leases", "leases/", "/leases/a", "leases/../a", "leases/..", "leases/.hidden", "leases/-rf", "leases/a/b",
    "leases/a\n", "leases/a b", "leases/a\0", "other/a", "../leases/a", "leases//a", "leases/" + "a" * 129,
    "leases/%2e%2e", "LEASES/a", "leases\\a", "leases/ä",
])  # fmt: skip
def test_a_name_cannot_leave_its_place(name, folder, root):
    for act in (
        lambda: rules.check_name(name),
        lambda: rules.serialise(document(name)),
        lambda: folder.read(name),
        lambda: folder.create(document(name)),
        lambda: folder.delete(name, "v"),
    ):
        with pytest.raises(RunbookError, match="is no document of the state store"):
            act()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("prefix", ["", "leases", "leases/../", "/", "other/", "leases/a/b", "../"])
def test_a_prefix_cannot_either(prefix, folder):
    with pytest.raises(RunbookError, match="begins no name"):
        folder.names(prefix)


WHOLE = rules.serialise(document())
ENVELOPE = json.loads(WHOLE)
#: Too large to be written as it is, and of words that come again, as records are.
LARGE = document(hosts={f"db{number:05}": {"status": "ok", "msg": "All well. " * 20} for number in range(25_000)})
COMPRESSED = json.loads(rules.serialise(LARGE))
WITHOUT_SUM = base64.b64encode(base64.b64decode(COMPRESSED["body_gzip"])[:-8]).decode()


@pytest.mark.parametrize(("data", "code"), [
    (b"", "state_truncated"),
    (WHOLE[:-3], "state_truncated"),
    (WHOLE[: len(WHOLE) // 2], "state_truncated"),
    (b"\xff\xfe\x00", "state_truncated"),
    (b"[]", "state_foreign"),
    (b"null", "state_foreign"),
    (b'{"schema": "terraform"}', "state_foreign"),
    (json.dumps(ENVELOPE | {"schema_version": 3}).encode(), "state_newer"),
    (json.dumps(ENVELOPE | {"schema_version": 2}).encode(), "state_damaged"),
    (json.dumps(COMPRESSED | {"schema_version": 1}).encode(), "state_damaged"),
    (json.dumps(COMPRESSED | {"body_gzip": COMPRESSED["body_gzip"][:-40]}).encode(), "state_damaged"),
    # All of it, without the check sum at its end.
    (json.dumps(COMPRESSED | {"body_gzip": WITHOUT_SUM}).encode(), "state_damaged"),
    (json.dumps(COMPRESSED | {"body_gzip": 7}).encode(), "state_damaged"),
    (json.dumps(COMPRESSED | {"body_gzip": "not base64"}).encode(), "state_damaged"),
    (json.dumps({"schema": rules.SCHEMA, "schema_version": 99}).encode(), "state_newer"),
    (json.dumps(ENVELOPE | {"schema_version": "1"}).encode(), "state_damaged"),
    (json.dumps(ENVELOPE | {"body": []}).encode(), "state_damaged"),
    (json.dumps(ENVELOPE | {"token": None}).encode(), "state_damaged"),
    (json.dumps(ENVELOPE | {"name": "leases/other"}).encode(), "state_damaged"),
    (bytes(rules.MAX_BYTES + 1), "state_too_large"),
])  # fmt: skip
def test_what_cannot_be_read_is_unknown_and_never_overwritten(data, code, folder, root):
    with pytest.raises(RunbookError) as refused:
        rules.parse("leases/vercel", data)
    assert (refused.value.context["code"], refused.value.context["status"]) == (code, "unknown")
    version = folder.create(document())
    path = root / "sandbox/leases/vercel.json"
    path.write_bytes(data)
    for act in (
        lambda: folder.read("leases/vercel"),
        lambda: folder.create(document(mark="t2")),
        lambda: folder.replace(document(mark="t2"), version),
        lambda: folder.delete("leases/vercel", version),
    ):
        with pytest.raises(RunbookError) as refused:
            act()
        assert refused.value.context["code"] == code
    assert path.read_bytes() == data


@pytest.mark.parametrize("body", [
    {"password": "hunter2"},
    {"deep": [{"session_token": "abcdef"}]},
    {"why": "could not reach postgresql://app:hunter2@db/x"},
    {"list": ["password=hunter2"]},
])  # fmt: skip
def test_no_secret_gets_in(body):
    with pytest.raises(RunbookError, match="looks like a secret") as refused:
        rules.serialise(document(**body))
    assert "hunter2" not in str(refused.value)


def test_what_was_blotted_out_is_no_secret():
    rules.serialise(document(password="********", why="password=********", token="VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"))


def test_a_large_document_is_compressed_and_comes_back_as_it_was_written(monkeypatch):
    data = rules.serialise(LARGE)
    assert len(data) < rules.MAX_BYTES < len(json.dumps(LARGE.body))
    assert data == rules.serialise(LARGE)
    assert rules.parse(LARGE.name, data) == LARGE
    # One that would fill the memory is none of ours.
    monkeypatch.setattr(rules, "MAX_BODY_BYTES", 1000)
    with pytest.raises(RunbookError, match="lacks what each document has"):
        rules.parse(LARGE.name, data)


def test_a_document_is_small_and_json():
    with pytest.raises(RunbookError, match="at most 4194304, compressed; run the playbook for a part of the hosts"):
        rules.serialise(document(long=secrets.token_hex(rules.MAX_BYTES)))
    for wrong in (float("nan"), {1, 2}, NOW):
        with pytest.raises(RunbookError, match="cannot be written as JSON"):
            rules.serialise(document(wrong=wrong))


# --- the lease of work without a database -----------------------------------------------------------------------------


def claim(current: rules.Document | None, run_id: str, now: datetime = NOW, holder: Any = "unknown") -> dict[str, Any]:
    return rules.claim(
        current, name="leases/vercel", run_id=run_id, machine="", purpose="rotate", holder=holder, now=now
    )


def test_a_lease_ends_by_the_clock_of_the_store():
    held = document(run_id="one", **claim(None, "one"))
    expiry = NOW + timedelta(seconds=rules.LEASE_TTL_S)
    with pytest.raises(RunbookError, match=r"held by run one \(rotate, bastion/42\) until 2026-03-01 02:15:00 UTC"):
        claim(held, "two", expiry - timedelta(seconds=1))
    assert claim(held, "two", expiry)["acquired_at"] == expiry.isoformat()
    # What the writer's own clock said counts for nothing.
    assert claim(replace(held, written_at="2099-01-01T00:00:00Z"), "two", expiry)


def test_a_lease_is_renewed_by_its_run_and_taken_from_a_dead_one():
    held = document(run_id="one", **claim(None, "one"))
    later = NOW + timedelta(seconds=60)
    renewed = claim(held, "one", later)
    assert renewed["acquired_at"] == NOW.isoformat()
    assert renewed["expires_at"] == (later + timedelta(seconds=rules.LEASE_TTL_S)).isoformat()
    assert claim(held, "two", later, holder="dead")
    with pytest.raises(RunbookError, match="is held"):
        claim(held, "two", later, holder="alive")


def test_what_is_no_lease_is_not_taken_over():
    # The last is a moment that UTC does not have.
    for expires_at in (None, "soon", 5, "0001-01-01T00:00:00+14:00"):
        body = claim(None, "one") | {"expires_at": expires_at} if expires_at else {}
        with pytest.raises(RunbookError, match="is no lease") as refused:
            claim(document(**body), "two")
        assert refused.value.context["status"] == "unknown"


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_keeps_documents(folder, root):
    assert folder.read("leases/vercel").document is None
    before = os.umask(0)
    try:
        first = folder.create(document(phase=1))
    finally:
        os.umask(before)
    assert folder.read("leases/vercel").document == document(phase=1)
    second = folder.replace(document(mark="t2", phase=2), first)
    assert (folder.read("leases/vercel").version, folder.names("leases/")) == (second, ["leases/vercel"])
    modes = {str(path.relative_to(root)): path.stat().st_mode & 0o777 for path in root.rglob("*")}
    assert modes == {".lock": 0o600, "sandbox": 0o700, "sandbox/leases": 0o700, "sandbox/leases/vercel.json": 0o600}
    folder.delete("leases/vercel", second)
    folder.delete("leases/vercel", second)
    assert folder.names("leases/") == folder.names("records/") == []


def test_who_comes_second_is_told_who_was_first(folder):
    first = folder.create(document())
    with pytest.raises(ConflictError, match="run run-1 on bastion/42 wrote it at 2026-03-01") as refused:
        folder.create(document(mark="t2", run_id="run-2"))
    assert refused.value.current.document == document()
    second = folder.replace(document(mark="t3", run_id="run-3"), first)
    for act in (
        lambda: folder.replace(document(mark="t4"), first),
        lambda: folder.delete("leases/vercel", first),
    ):
        with pytest.raises(ConflictError, match="run run-3"):
            act()
    folder.delete("leases/vercel", second)
    with pytest.raises(ConflictError, match="it is gone"):
        folder.replace(document(mark="t5"), second)


def test_of_two_writers_at_once_one_wins(root):
    base = Folder(root, "sandbox").create(document())
    won: list[int] = []
    lost: list[int] = []
    together = threading.Barrier(8)

    def write(number: int) -> None:
        together.wait(30)
        try:
            Folder(root, "sandbox").replace(document(mark=f"w{number}", run_id=f"run-{number}"), base)
            won.append(number)
        except ConflictError as error:
            current = error.current.document
            lost.append(int(current.run_id.removeprefix("run-")) if current else -1)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    assert lost == won * 7


def test_a_folder_that_is_gone_is_unknown_and_not_empty(tmp_path):
    store = Folder(tmp_path / "not-mounted", "sandbox")
    for act in (lambda: store.read("leases/a"), lambda: store.names("leases/"), lambda: store.create(document())):
        with pytest.raises(RunbookError, match="is not there; mount it") as refused:
            act()
        assert refused.value.context["status"] == "unknown"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_can_open_is_refused(root):
    store = Folder(root, "sandbox")
    root.chmod(0o755)
    with pytest.raises(RunbookError, match="open to others"):
        store.create(document())
    root.chmod(0o700)
    (root.parent / "link").symlink_to(root)
    with pytest.raises(RunbookError, match="is no folder"):
        Folder(root.parent / "link", "sandbox").read("leases/a")


def test_a_file_that_cannot_be_read_is_unknown(folder, root):
    folder.create(document())
    path = root / "sandbox/leases/vercel.json"
    path.unlink()
    path.symlink_to(root / "nowhere")
    with pytest.raises(RunbookError, match="symbolic link") as refused:
        folder.read("leases/vercel")
    assert refused.value.context["status"] == "unknown"
    path.unlink()
    path.mkdir()
    with pytest.raises(RunbookError, match="reading leases/vercel failed"):
        folder.read("leases/vercel")


def test_what_a_killed_writer_left_is_no_document_and_in_nobodys_way(folder, root):
    folder.create(document())
    (root / "sandbox/leases/.vercel.json.new").write_text("half")
    (root / "sandbox/leases/notes.txt").write_text("somebody's")
    version = folder.read("leases/vercel").version
    assert folder.names("leases/") == ["leases/vercel"]
    folder.replace(document(mark="t2"), version)
    assert not (root / "sandbox/leases/.vercel.json.new").exists()


def test_environments_share_no_document(root):
    Folder(root, "staging").create(document())
    assert Folder(root, "production").read("leases/vercel").document is None


def test_an_act_that_does_not_end_is_given_up(folder, monkeypatch):
    monkeypatch.setattr(state_store, "ACT_S", 0.05)
    for_ever = threading.Event()
    monkeypatch.setattr(folder, "_read", lambda *_args: for_ever.wait())
    with pytest.raises(RunbookError, match="no answer came") as refused:
        folder.read("leases/vercel")
    assert refused.value.context["status"] == "unknown"
    for_ever.set()


def test_a_lock_that_is_held_is_waited_for_and_given_up(folder, root, monkeypatch):
    monkeypatch.setattr(state_store, "_LOCK_S", 0.05)
    with folder._locked(), pytest.raises(RunbookError, match="another process holds"):
        Folder(root, "sandbox").create(document())


# --- which store ------------------------------------------------------------------------------------------------------


def test_an_inventory_names_one_store_or_none(root):
    assert state_store.from_settings({}, "sandbox") is None
    assert state_store.from_settings({"state_bucket": "", "state_directory": None, "state_region": "x"}, "") is None
    assert isinstance(state_store.from_settings({"state_directory": str(root)}, "sandbox"), Folder)
    bucket = state_store.from_settings(
        {"state_bucket": "b", "state_prefix": "/p/", "state_region": "us-east-1"}, "sandbox"
    )
    assert isinstance(bucket, Bucket)
    assert str(bucket) == "s3://b/p/"
    for settings, environment, word in (
        ({"state_bucket": "b", "state_directory": str(root)}, "sandbox", "both are set"),
        ({"state_directory": str(root), "state_prefix": "p"}, "sandbox", "state_prefix: of no use"),
        ({"state_directory": str(root)}, "", "runbook_environment"),
    ):
        with pytest.raises(RunbookError, match=word):
            state_store.from_settings(settings, environment)


class Careless:
    """An S3 server that knows no conditions: whatever is asked for, it does."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def __getattr__(self, operation: str) -> Any:
        def act(**wanted: Any) -> dict[str, Any]:
            if operation == "get_bucket_tagging":
                return {"TagSet": [{"Key": "runbook-environment", "Value": "sandbox"}]}
            if operation == "put_object":
                self.kept[wanted["Key"]] = wanted["Body"]
            elif operation == "delete_object":
                self.kept.pop(wanted["Key"], None)
            else:
                raise ClientError({"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {}}, operation)
            return {"ETag": '"x"'}

        return act


def test_a_server_that_keeps_no_conditions_is_refused_before_anything_is_written():
    server = Careless()
    store = Bucket(s3.Store(server, "b"), "p", "sandbox")
    for act in (
        lambda: store.create(document()),
        lambda: store.replace(document(), "v"),
        lambda: store.delete("leases/vercel", "v"),
    ):
        with pytest.raises(RunbookError, match="does not keep If-Match"):
            act()
    assert server.kept == {}
    with pytest.raises(RunbookError, match="does not say what time it is"):
        store.read("leases/vercel")
