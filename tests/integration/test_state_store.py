"""The state store in a bucket, on the sandbox's S3 server."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.state_store import Bucket, ConflictError
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import state as rules
from s3_faults import FaultyS3, close, hang, lose_answer, reset, slow, status, truncate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import S3


def document(mark: str = "t1", run_id: str = "run-1", **body: Any) -> rules.Document:
    return rules.Document("leases/vercel", body, run_id, "bastion/42", "2026-03-01T02:00:00Z", mark)


def settings(s3: S3, bucket: str, **more: str) -> dict[str, Any]:
    return (
        {f"state_{name}": value for name, value in s3.options(bucket).items()} | {"state_prefix": "team/state"} | more
    )


def open_store(s3: S3, bucket: str, environment: str = "sandbox", **more: str) -> Bucket:
    store = state_store.from_settings(settings(s3, bucket, **more), environment)
    assert isinstance(store, Bucket)
    return store


@pytest.fixture(params=[True, False], ids=["versions", "no versions"])
def bucket(s3: S3, request: pytest.FixtureRequest) -> str:
    return s3.bucket(versioned=request.param)


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyS3]:
    with FaultyS3(s3.endpoint_url) as made:
        yield made


@pytest.fixture
def plain(s3: S3) -> str:
    return s3.bucket(versioned=False)


@pytest.fixture
def faulty(s3: S3, plain: str, proxy: FaultyS3) -> Bucket:
    """A store behind the proxy that has seen already that its server keeps conditions."""
    store = open_store(s3, plain, state_endpoint_url=proxy.endpoint_url)
    for act in ("put", "delete"):
        store._prove(act)
    return store


def test_a_bucket_keeps_documents(s3, bucket):
    store = open_store(s3, bucket)
    assert store.read("leases/vercel").document is None
    first = store.create(document(phase=1))
    assert store.read("leases/vercel").document == document(phase=1)
    second = store.replace(document("t2", phase=2), first)
    found = store.read("leases/vercel")
    assert (found.document, found.version) == (document("t2", phase=2), second)
    assert abs((found.now - datetime.now(UTC)).total_seconds()) < 3600
    s3.client().put_object(Bucket=bucket, Key="team/state/leases/readme.txt", Body=b"somebody's")
    assert (store.names("leases/"), store.names("leases/w"), store.names("records/")) == (["leases/vercel"], [], [])
    store.delete("leases/vercel", second)
    store.delete("leases/vercel", second)
    assert store.read("leases/vercel").document is None
    store.create(document("t3"))
    (key, _) = sorted(each["Key"] for each in s3.client().list_objects_v2(Bucket=bucket)["Contents"])
    assert key == "team/state/leases/readme.txt"


def test_who_comes_second_is_told_who_was_first(s3, bucket):
    store = open_store(s3, bucket)
    first = store.create(document())
    with pytest.raises(ConflictError, match="run run-1 on bastion/42 wrote it at"):
        store.create(document("t2", "run-2"))
    second = store.replace(document("t3", "run-3"), first)
    for act in (lambda: store.replace(document("t4"), first), lambda: store.delete("leases/vercel", first)):
        with pytest.raises(ConflictError, match="run run-3") as refused:
            act()
        assert refused.value.current.version == second
    store.delete("leases/vercel", second)
    with pytest.raises(ConflictError, match="it is gone"):
        store.replace(document("t5"), second)


@pytest.mark.parametrize("is_there", [False, True])
def test_of_two_runs_that_want_a_lease_at_once_one_has_it(s3, plain, is_there):
    name = "leases/vercel"
    if is_there:
        then = "2020-01-01T00:00:00Z"
        ended = {"machine": "", "purpose": "p", "acquired_at": then, "expires_at": then}
        open_store(s3, plain).create(document(**ended))
    won: list[str] = []
    lost: list[str] = []
    together = threading.Barrier(4)

    def work(run_id: str) -> None:
        store = open_store(s3, plain)
        found = store.read(name)
        body = rules.claim(
            found.document, name=name, run_id=run_id, machine="", purpose="rotate", holder="unknown", now=found.now
        )
        wanted = rules.Document(name, body, run_id, "bastion/1", "", f"token of {run_id}")
        together.wait(60)
        try:
            if found.document is None:
                store.create(wanted)
            else:
                store.replace(wanted, found.version)
            won.append(run_id)
        except ConflictError as error:
            lost.append(error.current.document.run_id if error.current.document else "")

    threads = [threading.Thread(target=work, args=(f"run-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(won) == 1
    assert lost == won * 3


@pytest.mark.parametrize("times", [1, 5])
def test_a_write_whose_answer_is_lost_is_known_by_its_token(s3, plain, proxy, faulty, times):
    """After one lost answer the repetition is refused, because the first attempt was done; after five there is none."""
    proxy.add(lose_answer(method="PUT", times=times))
    first = faulty.create(document())
    proxy.add(lose_answer(method="PUT", times=times))
    second = faulty.replace(document("t2"), first)
    assert open_store(s3, plain).read("leases/vercel").version == second
    proxy.add(lose_answer(method="DELETE", times=times))
    faulty.delete("leases/vercel", second)
    assert open_store(s3, plain).read("leases/vercel").document is None


def test_a_lost_answer_is_not_taken_for_a_success_of_somebody_elses(s3, plain, proxy, faulty):
    """The same body from another run is another document."""
    open_store(s3, plain).create(document("theirs", "run-2", phase=1))
    proxy.add(lose_answer(method="PUT", times=1))
    with pytest.raises(ConflictError, match="run run-2"):
        faulty.create(document("ours", "run-1", phase=1))


def test_a_write_that_never_arrived_is_unknown(s3, plain, proxy, faulty):
    proxy.add(close(method="PUT", times=0))
    with pytest.raises(RunbookError, match="writing leases/vercel failed") as refused:
        faulty.create(document())
    assert refused.value.context["status"] == "unknown"
    assert open_store(s3, plain).read("leases/vercel").document is None
    # Nor can it be looked at what is there.
    proxy.add(status(403, "AccessDenied", times=0))
    for act in (lambda: faulty.replace(document("t2"), "v"), lambda: faulty.delete("leases/vercel", "v")):
        with pytest.raises(RunbookError, match="What became of it is unknown") as refused:
            act()
        assert refused.value.context["status"] == "unknown"


def test_a_write_that_met_another_one_is_tried_again(proxy, faulty):
    proxy.add(status(409, "ConditionalRequestConflict", method="PUT", times=2))
    first = faulty.create(document())
    proxy.add(status(409, "ConditionalRequestConflict", method="PUT", times=1))
    faulty.replace(document("t2"), first)
    assert proxy.hits == 3


@pytest.mark.parametrize("fault", [
    reset(times=0),
    status(403, "AccessDenied", times=0),
    status(403, "RequestTimeTooSkewed", times=0),
    status(404, "NoSuchBucket", times=0),
    # Another web server, or a proxy on the way.
    status(404, "Not Found", times=0),
    truncate(at_bytes=20, times=0),
    truncate(at_bytes=0, fitting=True, times=0),
], ids=lambda fault: f"{fault.kind} {fault.code}")  # fmt: skip
def test_a_store_that_is_down_is_unknown_and_never_absent(s3, plain, proxy, faulty, fault):
    open_store(s3, plain).create(document())
    proxy.add(fault)
    for act in (lambda: faulty.read("leases/vercel"), lambda: faulty.names("leases/")):
        with pytest.raises(RunbookError) as refused:
            act()
        assert refused.value.context.get("status") == "unknown", refused.value
    proxy.clear()
    assert faulty.read("leases/vercel").document == document()


@pytest.mark.parametrize("fault", [hang(times=0), slow(bytes_per_s=1, times=0)], ids=lambda fault: fault.kind)
def test_an_act_ends_though_no_answer_does(s3, plain, proxy, faulty, fault, monkeypatch):
    open_store(s3, plain).create(document())
    monkeypatch.setattr(state_store, "ACT_S", 0.5)
    proxy.add(fault)
    with pytest.raises(RunbookError, match="no answer came") as refused:
        faulty.read("leases/vercel")
    assert refused.value.context["status"] == "unknown"


@pytest.mark.parametrize("data", [b"", b'{"schema": "runbook-st', b'{"schema": "terraform"}'])
def test_what_cannot_be_read_is_not_overwritten(s3, plain, data):
    key = "team/state/leases/vercel.json"
    version = s3.client().put_object(Bucket=plain, Key=key, Body=data)["ETag"]
    store = open_store(s3, plain)
    for act in (lambda: store.read("leases/vercel"), lambda: store.create(document())):
        with pytest.raises(RunbookError) as refused:
            act()
        assert refused.value.context["status"] == "unknown"
    assert s3.client().get_object(Bucket=plain, Key=key)["ETag"] == version


@pytest.mark.parametrize(("environment", "word"), [("staging", "belongs to environment"), ("", "carries no tag")])
def test_a_bucket_of_another_environment_is_not_written_to(s3, environment, word):
    bucket = s3.bucket(environment=environment)
    with pytest.raises(RunbookError, match=word):
        open_store(s3, bucket).create(document())
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)
