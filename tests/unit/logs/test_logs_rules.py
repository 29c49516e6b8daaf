"""The rules of logs: times, classes, holds, configuration, chain, spans."""

from __future__ import annotations

import doctest
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.logs import chain, files, pulled, search, streams, times
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from conftest import ROOT

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEYS = chain.Keys(["k" * 32])


@pytest.mark.parametrize("module", [chain, files, pulled, search, streams, times], ids=lambda module: module.__name__)
def test_examples(module):
    assert doctest.testmod(module).failed == 0


# Times


def bounds(*pieces: bytes) -> tuple[datetime | None, datetime | None]:
    found = times.Bounds(NOW)
    for piece in pieces:
        found.add(piece)
    return found.result()


@pytest.mark.parametrize(
    "text",
    [
        b"2026-05-01T02:03:04Z a\n2026-05-01T04:05:06Z b\n",
        b"2026-05-01 02:03:04.5 a\n2026-05-01 04:05:06.5 b\n",
        b"2026-05-01T04:03:04+02:00 a\n2026-05-01T06:05:06.123+02:00 b\n",
        b'{"timestamp":"2026-05-01T02:03:04Z"}\n{"timestamp":"2026-05-01T04:05:06Z"}\n',
        b"2026/05/01 02:03:04 [error] a\n2026/05/01 04:05:06 [error] b\n",
        b'10.0.0.1 - - [01/May/2026:02:03:04 +0000] "GET /"\n10.0.0.1 - - [01/May/2026:04:05:06 +0000] "GET /"\n',
        b"May  1 02:03:04 web app[1]: a\nMay  1 04:05:06 web app[1]: b\n",
        b'{"level":30,"time":1777600984000,"msg":"a"}\n{"level":30,"time":1777608306000,"msg":"b"}\n',
    ],
)
def test_each_form_of_a_time_has_its_bounds(text):
    first, last = bounds(text)
    assert first is not None
    assert last is not None
    assert first.replace(second=0) == datetime(2026, 5, 1, 2, 3, tzinfo=UTC)
    # Seconds since 1970 are read to the second.
    assert last.replace(second=0) == datetime(2026, 5, 1, 4, 6, tzinfo=UTC)
    read = [times.of_line(line, NOW) for line in text.splitlines()]
    assert all(at is not None and first <= at < last for at in read)


def test_bounds_are_of_every_line_whatever_their_order_and_wherever_a_piece_ends():
    text = b"2026-05-02T00:00:00Z b\n2026-05-03T00:00:00Z c\n2026-05-01T00:00:00Z a\n"
    whole = bounds(text)
    assert whole == (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 3, 0, 1, tzinfo=UTC))
    for cut in range(1, len(text)):
        first, last = bounds(text[:cut], text[cut:])
        assert first is not None
        assert last is not None
        assert first <= whole[0]
        assert last >= whole[1]


def test_a_log_without_times_has_no_bounds():
    assert bounds(b"hello\nworld\n") == (None, None)
    assert bounds() == (None, None)
    assert times.of_line(b"2026-13-45T99:99:99Z", NOW) is None


@pytest.mark.parametrize(
    "quoted", [b"2020-01-01T00:00:00Z", b"[31/Dec/9999:23:59:59 +0000]", b"[01/Jan/0001:00:00:00 +0000]"]
)
def test_a_time_that_a_request_quotes_is_none_of_the_line(quoted):
    line = b'10.0.0.1 - - [01/May/2026:02:03:04 +0000] "GET /?since=' + quoted + b' HTTP/1.1" 200\n'
    first, last = bounds(line * 3)
    at = datetime(2026, 5, 1, 2, 3, 4, tzinfo=UTC)
    assert times.of_line(line, NOW) == at
    assert (first, last) == (at.replace(second=0), at.replace(second=0) + timedelta(minutes=1))
    # Whoever is logged keeps nothing from being archived, found or deleted.
    assert bounds(quoted.strip(b"[]") + b" a\n")[1] in (None, datetime(2020, 1, 1, 0, 1, tzinfo=UTC))


def test_a_log_that_changes_its_form_has_bounds_of_both():
    first, last = bounds(b"2026-05-01T02:03:04Z a\n", b"02/May/2026:02:03:04 +0000 b\n")
    assert (first, last) == (datetime(2026, 5, 1, 2, 3, tzinfo=UTC), datetime(2026, 5, 2, 2, 4, tzinfo=UTC))


def test_a_zone_that_the_bounds_did_not_see_hides_no_line():
    content = chain.Content("k", None, 1, "a", 1, "b", 1, NOW, NOW + timedelta(minutes=1), {})
    for hours, found in ((-12, True), (0, True), (12, True), (-20, False), (20, False)):
        since = NOW + timedelta(hours=hours)
        assert search.Wanted(since, since + timedelta(minutes=1), None).may_be_in(content) is found


# Classes and holds


def link(**more: Any) -> chain.Link:
    content = chain.Content("k", None, 1, "a", 1, "b", 1, NOW - timedelta(days=401), NOW - timedelta(days=400), {})
    made = chain.Link(1, "archive", NOW - timedelta(days=399), "run", "", "app", "operational", content)
    return replace(made, **more)


CLASSES = streams.classes({
    "operational": {"hot_days": 30, "archive_days": 365}, "audit": {"hot_days": 30, "archive_days": 2192},
    "ever": {"hot_days": 1, "archive_days": "forever"},
})  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "now", "due"),
    [
        ({}, NOW, True),
        # To the second, counted from the day of archiving, which is the later one.
        ({}, NOW - timedelta(days=34), True),
        ({}, NOW - timedelta(days=34, seconds=1), False),
        ({"retention_class": "audit"}, NOW, False),
        ({"retention_class": "ever"}, NOW + timedelta(days=36_000), False),
        ({"retention_class": "strange"}, NOW + timedelta(days=36_000), False),
    ],
)
def test_when_an_archive_is_over(changed, now, due):
    assert streams.fate(link(**changed), CLASSES, [], now).is_due is due


def test_of_two_classes_the_longer_counts_and_an_unknown_one_keeps():
    assert not streams.fate(link(), CLASSES, [], NOW, stream_class="audit").is_due
    assert not streams.fate(link(), CLASSES, [], NOW, stream_class="gone").is_due


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ({}, True),
        ({"streams": ["app"]}, True),
        ({"streams": ["other"]}, False),
        ({"since": (NOW - timedelta(days=399)).isoformat()}, False),
        # The lines may be of a zone that they do not say.
        ({"since": (NOW - timedelta(days=400, hours=-13)).isoformat()}, True),
        ({"since": (NOW - timedelta(days=400)).isoformat()}, True),
        ({"until": (NOW - timedelta(days=402)).isoformat()}, False),
    ],
)
def test_what_a_legal_hold_covers(said, held):
    hold = streams.holds([{"name": "case", "reason": "a letter"} | said], ["app", "other"])
    assert streams.fate(link(), CLASSES, hold, NOW).is_due is not held
    known = link().content
    assert known is not None
    content = replace(known, first_at=None, last_at=None)
    assert hold[0].covers(link(content=content)) is ("other" not in said.get("streams", []))


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"reason": ""}, "is no hold"),
        ({"streams": "app"}, "give a list"),
        (
            {"streams": ["app", "ap"]},
            r"'ap', which is neither in the archive nor in the inventory of this host \(app\); correct it",
        ),
        ({"since": "2026-05-02T00:00:00Z", "until": "2026-05-01T00:00:00Z"}, "before its since"),
    ],
)
def test_a_hold_that_would_hold_nothing_is_refused(said, word):
    with pytest.raises(RunbookError, match=word):
        streams.holds([{"name": "case", "reason": "a letter"} | said], ["app"])


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"access": {"hot_days": 30, "archive_days": 2191}}, "shorter_because"),
        ({"x": {"hot_days": 30}}, "archive_days"),
        ({"x": {"hot_days": -1, "archive_days": 5}}, "hot_days"),
        ({"x": {"hot_days": 6, "archive_days": 5}}, "raise archive_days"),
        ({"X!": {"hot_days": 1, "archive_days": 5}}, "is no name"),
        ({"x": {"hot_days": 1, "archive_days": 5, "days": 3}}, "give it hot_days"),
    ],
)
def test_a_class_that_is_not_whole_is_named(given, word):
    with pytest.raises(RunbookError, match=word):
        streams.classes(given)
    with pytest.raises(RunbookError, match="is no hold"):
        streams.holds([{"name": "case"}], [])


def test_documentation_may_be_kept_shorter_with_a_reason():
    found = streams.classes({"audit": {"hot_days": 1, "archive_days": 400, "shorter_because": "counsel, 2026-03-01"}})
    assert found["audit"].archive_days == 400


# Files


def test_logrotate_is_told_to_rename_and_to_delete_nothing():
    (stream,) = files.read([{
        "name": "nginx", "class": "access", "paths": ["/var/log/nginx/*.log"], "create": "0640 www-data adm",
        "su": "www-data adm", "postrotate": "invoke-rc.d nginx rotate",
    }])  # fmt: skip
    text = files.configuration([stream])
    for line in ("rotate -1", "create 0640 www-data adm", "su www-data adm", "invoke-rc.d nginx rotate"):
        assert f"    {line}\n" in text
    assert "    nocopytruncate\n" in text
    assert stream.rotated == ["/var/log/nginx/*.log-*"]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"paths": []}, "is empty"),
        ({"paths": ["/var/log/a b"]}, "a b"),
        ({"paths": ["/var/log/x {}"]}, "x {}"),
        ({"class": None}, "class of app"),
        ({"create": "rw"}, "create of app"),
        ({"postrotate": "x\nendscript\n}"}, "endscript"),
        ({"rotate": 3}, "rotate"),
    ],
)
def test_a_stream_that_is_not_whole_is_named(said, word):
    with pytest.raises(RunbookError, match=word):
        files.read([{"name": "app", "class": "x", "paths": ["/var/log/app.log"]} | said])


def _paths(*paths: str) -> list[dict[str, object]]:
    return [{"name": f"app{number}", "class": "x", "paths": [path]} for number, path in enumerate(paths)]


@pytest.mark.parametrize(
    "paths",
    [
        ["/var/log/app/*"],
        ["/var/log/app.log*"],
        ["/var/log/app-?*[0-9]"],
        ["/var/log/*/app-[!x]*"],
        ["/var/log/app.log", "/var/log/app.l*"],
    ],
)
def test_a_pattern_that_matches_its_own_rotated_names_is_refused(paths):
    with pytest.raises(RunbookError, match=r"^files: '.*' in paths of app\d also matches .*, such as /var/log/"):
        files.read(_paths(*paths))


def test_patterns_that_end_as_the_log_does_are_taken():
    taken = _paths("/var/log/app/*.log", "/srv/*/log/[a-c]?.out", "/var/log/.hidden", "/var/log/x/app")
    assert len(files.read(taken)) == 4


# The chain


def a_chain(count: int) -> list[chain.Link]:
    made: list[chain.Link] = []
    for seq in range(1, count + 1):
        before = made[-1].seal if made else ""
        made.append(KEYS.sealed(link(seq=seq, previous=before)))
    return made


def test_a_link_comes_back_as_it_was_and_an_edited_one_does_not():
    (made,) = a_chain(1)
    data = made.serialised()
    assert chain.Link.parse(1, data, KEYS) == made
    with pytest.raises(RunbookError, match="edited"):
        chain.Link.parse(1, data.replace(b'"lines": 1', b'"lines": 2'), KEYS)
    with pytest.raises(RunbookError, match="another's place"):
        chain.Link.parse(2, data, KEYS)
    with pytest.raises(RunbookError, match="damaged"):
        chain.Link.parse(1, data[:50], KEYS)
    with pytest.raises(RunbookError, match="not among seal_keys"):
        chain.Link.parse(1, data, chain.Keys(["x" * 32]))
    assert chain.Link.parse(1, data, chain.Keys(["x" * 32, "k" * 32])) == made


def wrong(links: list[chain.Link], head: chain.Head) -> list[str]:
    return list(chain.broken([(each.seq, each) for each in links], head))


def test_a_chain_shows_what_was_taken_out_replaced_or_cut_off():
    made = a_chain(5)
    head = chain.Head(5, made[-1].seal)
    assert wrong(made, head) == []
    # One that was written before the state store was told.
    assert wrong(made, chain.Head(4, made[3].seal)) == []
    assert "Link 3 is missing" in wrong([*made[:2], *made[3:]], head)[0]
    assert "Links 1 to 2 are missing" in wrong(made[2:], head)[0]
    assert "cut off" in wrong(made[:4], head)[0]
    other = KEYS.sealed(replace(made[2], reason="x"))
    assert "does not follow link 3" in wrong([*made[:2], other, *made[3:]], head)[0]
    assert "was replaced" in wrong([*made[:4], KEYS.sealed(replace(made[4], reason="x"))], head)[0]


def test_what_does_not_count_is_not_standing():
    made = a_chain(3)
    later = [link(seq=4, kind="void", of=(1,), content=None), link(seq=5, kind="expiry", of=(2,), content=None)]
    assert [each.seq for each in chain.standing([*made, *later])] == [3]


# Spans


def test_spans_are_of_a_day_at_most_and_a_gap_is_told():
    fetched = datetime(2026, 5, 20, 10, 30, tzinfo=UTC)
    found = pulled.plan(fetched, NOW, kept_days=7, settle_s=300)
    assert found.gap == pulled.Window(fetched, datetime(2026, 5, 25, 0, 1, tzinfo=UTC))
    assert all(each.until - each.since <= pulled.WINDOW for each in found.windows)
    ends = [each.until for each in found.windows]
    assert [each.since for each in found.windows[1:]] == ends[:-1]
    assert ends[-1] == datetime(2026, 5, 31, 23, 55, tzinfo=UTC)
    assert pulled.plan(ends[-1], NOW, kept_days=7, settle_s=300) == pulled.Plan((), None)


def test_a_log_that_supabase_does_not_have_never_gets_into_sql():
    with pytest.raises(RunbookError, match="is none"):
        pulled.count_sql("x' or 1=1 --", pulled.Window(NOW, NOW))


def test_the_role_tells_the_class_of_each_stream_of_the_inventory():
    tasks = yaml.safe_load((ROOT / "roles/logs/tasks/expire.yml").read_text())
    variables = {
        "logs_files": [{"name": "app", "class": "operational"}], "logs_tables": [{"stream": "rows", "class": "audit"}],
        "logs_supabase": [{"log": "postgres_logs", "class": "audit"}],
    }  # fmt: skip
    said = Templar(DataLoader(), variables=variables).template(
        trust_as_template(tasks[0]["log_archive_expire"]["streams"])
    )
    assert said == {"app": "operational", "rows": "audit", "supabase-postgres-logs": "audit"}
