"""The client of services against one on loopback, with all that goes wrong there; what it waits for is not slept."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from email.utils import formatdate
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from ansible.module_utils.runbook.drivers.http import api_client, api_pages
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError, Repeat
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from certificates import certificate, save
from conftest import free_port
from fakes.http import EXCHANGES, Asked, FakeService, Fault, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "t0k3n-c4n4ry"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Tickets(FakeService):
    """Keeps tickets by their number, and lists them in each of the ways that services do."""

    service: ClassVar[str] = "tickets"

    def __init__(self) -> None:
        super().__init__()
        self.tickets: dict[str, Any] = {}
        self.seen: list[Asked] = []
        self.size = 2
        self.posted = threading.Event()

    def answer(self, asked: Asked) -> Reply:
        self.seen.append(asked)
        if asked.path == "/metrics":
            return Reply(200, b"up 1\n", {"Content-Type": "text/plain"})
        if asked.path == "/hook":
            return Reply(200, b"ok", {"Content-Type": "text/plain"})
        if asked.path == "/search":
            return Reply(200, [asked.body])
        number = asked.path.removeprefix("/tickets").lstrip("/")
        if asked.method == "GET":
            return self._list(dict(pair.split("=") for pair in asked.query.split("&") if pair))
        if asked.method == "POST":
            number = str(len(self.tickets) + 1)
            self.tickets[number] = asked.body
            self.posted.set()
            return Reply(201, {"number": number, "ticket": asked.body})
        if asked.method == "DELETE":
            return Reply(200, {}) if self.tickets.pop(number, None) else Reply(404, {"message": "No such ticket"})
        self.tickets[number] = asked.body
        return Reply(200, asked.body)

    def _list(self, query: dict[str, str]) -> Reply:
        tickets, start = list(self.tickets.values()), int(query.get("from", query.get("offset", 0)))
        if "page" in query:
            start = self.size * (int(query["page"]) - 1)
        end = start + self.size
        more = end < len(tickets)
        link = (
            f'<https://elsewhere.example.com/tickets?from={end}>; rel="next", <https://x/>; rel="last"' if more else ""
        )
        body = {
            "tickets": tickets[start:end], "more": more, "pagination": {"next": end if more else None},
            "next": f"/elsewhere/?from={end}" if more else None,
        }  # fmt: skip
        return Reply(200, body, {"Link": link})


@pytest.fixture
def service() -> Iterator[Tickets]:
    with Tickets() as fake:
        yield fake


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def made(service, pauses, monkeypatch) -> Callable[..., ApiClient]:
    """A client of the service, that remembers its pauses."""

    def make(*, call_s: float = 180, **options: Any) -> ApiClient:
        monkeypatch.setattr(api_client, "_CALL_S", call_s)
        common: dict[str, Any] = {
            "service": "Tickets", "base_url": service.url, "headers": {"Authorization": f"Bearer {TOKEN}"},
            "secrets": {"token": TOKEN}, "read_only": False, "timeout_s": 30, "sleep": pauses.append,
        }  # fmt: skip
        return ApiClient(**(common | options))

    return make


@pytest.fixture
def client(made: Callable[..., ApiClient]) -> ApiClient:
    return made()


def send(client: ApiClient, method: str, **options: Any) -> Any:
    """A write of each kind."""
    body = {} if method == "DELETE" else {"body": {"title": "t"}}
    return getattr(client, method.lower())("/tickets" if method == "POST" else "/tickets/1", **body, **options)


# What is sent ---------------------------------------------------------------------------------------------------------


def test_each_method_says_what_it_means(service, client):
    assert client.post("/tickets", {"title": "a"}) == {"number": "1", "ticket": {"title": "a"}}
    assert client.put("/tickets/1", {"title": "b"}) == {"title": "b"}
    assert client.patch("/tickets/1", {"title": "c"}, (("notify", "no"),)) == {"title": "c"}
    assert client.get("/tickets")["tickets"] == [{"title": "c"}]
    assert client.delete("/tickets/1") == {}
    assert client.get("/tickets")["tickets"] == []
    assert [asked.query for asked in service.seen if asked.query] == ["notify=no"]
    assert service.requests[0] == "POST /tickets"
    assert {asked.headers["Authorization"] for asked in service.seen} == {f"Bearer {TOKEN}"}


def test_plain_text_is_an_answer(client):
    assert client.text("/metrics") == "up 1\n"
    assert client.post("/hook", {"text": "hello"}) == "ok"


def test_a_look_takes_any_status_for_an_answer_and_is_not_repeated(service, client):
    service.faults = [Fault("GET /page", "status", 503, {"Retry-After": "60"}, b"back at three")]
    seen = client.look("/page")
    assert (seen.status, seen.headers["retry-after"], seen.body) == (503, "60", b"back at three")
    service.faults = [Fault("GET /page", "reset", times=9)]
    with pytest.raises(UnreachableError, match="did not answer"):
        client.look("/page")
    assert len(service.requests) == 2


def test_a_page_of_a_proxy_is_none(service, client):
    page = {"Content-Type": "text/html"}
    service.faults = [
        Fault("metrics", "status", 200, page, b"<html>Log in</html>"),
        Fault("hook", "status", 200, page, b"<p>"),
    ]
    with pytest.raises(ApiError, match="with 200 and a page for people"):
        client.text("/metrics")
    assert client.post("/hook", {}) is None


@pytest.mark.parametrize("method", WRITES)
def test_a_client_that_only_reads_sends_no_write(service, made, method):
    client = made(read_only=True)
    with pytest.raises(RunbookError, match=rf"{method} /tickets(/1)? would write to Tickets in check mode"):
        send(client, method)
    assert service.requests == []
    assert client.get("/tickets")["more"] is False
    assert client.ask("/search", {"title": "a"}) == [{"title": "a"}]


# What goes wrong ------------------------------------------------------------------------------------------------------

PASSES = {
    "slow": Fault(".", "slow", wait_s=2),
    "trickle": Fault(".", "trickle"),
    "reset": Fault(".", "reset"),
    "early": Fault(".", "early"),
    "lost": Fault(".", "lost"),
    "503": Fault(".", "status", 503),
    "429": Fault(".", "status", 429),
    "420": Fault(".", "status", 420),
}


def patience(name: str) -> float:
    """How long to wait for one answer: not long for those that never come."""
    return 1 if name in ("slow", "trickle") else 30


def fault(name: str, **changed: Any) -> Fault:
    return Fault(**vars(PASSES[name]) | changed)


@pytest.mark.parametrize("name", PASSES)
def test_what_passes_is_read_again(service, made, name):
    service.faults = [fault(name)]
    assert made(timeout_s=patience(name)).get("/tickets")["more"] is False
    assert service.requests == ["GET /tickets"] * 2


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_write_that_may_have_happened_is_not_sent_again(service, made, method, name):
    service.faults = [fault(name)]
    client = made(timeout_s=patience(name) / 4)
    if name in ("429", "420"):
        send(client, method)
        assert len(service.requests) == 2
        return
    with pytest.raises(ApiError) as raised:
        send(client, method)
    assert raised.value.uncertain
    assert raised.value.context["status"] == "unknown"
    assert len(service.requests) == 1


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_write_that_may_happen_twice_is_sent_until_it_is_answered(service, made, method, name):
    service.tickets = {"1": {"title": "a"}}
    service.faults = [fault(name)]
    send(made(timeout_s=patience(name)), method)
    assert service.tickets == ({} if method == "DELETE" else {"1": {"title": "t"}})
    assert len(service.requests) == 2


def test_what_was_not_there_before_is_said(client):
    with pytest.raises(ApiError, match="with 404: No such ticket; check the id and api_url"):
        client.delete("/tickets/9")


def test_the_caller_says_how_often(service, client):
    service.faults = [fault("429")]
    with pytest.raises(ApiError) as raised:
        send(client, "POST", repeat=Repeat.NEVER)
    assert not raised.value.uncertain
    service.faults = [fault("reset", times=3)]
    send(client, "POST", repeat=Repeat.ALWAYS)
    assert len(service.requests) == 1 + 4


def test_a_refusal_after_a_lost_sending_leaves_it_open(service, client):
    service.faults = [fault("lost"), Fault(".", "status", 403)]
    with pytest.raises(ApiError, match="with 403") as raised:
        send(client, "PUT")
    assert raised.value.uncertain
    assert raised.value.context["status"] == "unknown"


def test_what_never_left_did_nothing(made):
    port = free_port()
    with pytest.raises(ApiError, match="Connection refused") as raised:
        send(made(base_url=f"http://127.0.0.1:{port}", call_s=0), "POST")
    assert not raised.value.uncertain
    assert raised.value.context["status"] == "unknown"


@pytest.mark.parametrize(
    ("body", "method"),
    [(b'{"more": fal', "get"), (b"[" * 100_000, "get"), (b"<html>", "ask")],
    ids=["half", "deep", "page"],
)
def test_what_is_no_json_is_said(service, client, body, method):
    service.faults = [Fault(".", "status", 200, body=body)]
    call = partial(getattr(client, method), "/tickets", *([{}] if method == "ask" else []))
    with pytest.raises(ApiError, match="with 200 and something that is no JSON; check api_url") as raised:
        call()
    assert raised.value.context["status"] == "unknown"
    assert len(service.requests) == 1


def test_an_answer_without_an_end_is_not_kept(service, made, monkeypatch):
    monkeypatch.setattr(api_client, "_MAX_BODY_BYTES", 1000)
    service.faults = [Fault(".", "status", 200, body=b" " * 100_000, times=9)]
    with pytest.raises(ApiError, match="its answer is larger than") as raised:
        made(call_s=60).get("/tickets")
    # It would be as large again.
    assert (raised.value.code, len(service.requests)) == (api_client.TOO_LARGE, 1)


def test_an_address_that_is_none_is_not_asked_again(made, pauses):
    with pytest.raises(ApiError, match=r"control characters.*Check the address"):
        made().get("/tickets/a b")
    assert pauses == []


# How long it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "lowest", "highest"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "in 3000"}, 1000, 3000),
        ({"Retry-After": "in -40"}, 0.1, 0.1),
        ({"Retry-After": "-3"}, 0.1, 0.1),
        ({"Retry-After": "nan"}, 0.5, 1),
        ({"Retry-After": "inf"}, 0.5, 1),
        ({"Retry-After": "1e99"}, 0.5, 1),
        ({"Retry-After": "soon", "X-Reset": "9"}, 9, 9),
        ({"X-Reset": "at 3000"}, 1000, 3000),
        ({}, 0.5, 1),
    ],
)
def test_it_comes_back_when_the_service_says(service, made, pauses, headers, lowest, highest):
    [(name, value)] = list(headers.items())[:1] or [("X-Other", "1")]
    kind, _, seconds = value.partition(" ")
    if kind == "in":
        value = formatdate(time() + int(seconds), usegmt=True)
    elif kind == "at":
        value = str(int(time()) + int(seconds))
    service.faults = [Fault(".", "status", 429, headers | {name: value})]
    made(reset_headers=("x-reset",), call_s=4000).get("/tickets")
    [pause] = pauses
    assert lowest <= pause <= highest


def test_a_403_that_names_a_time_is_a_limit(service, client, pauses):
    service.faults = [Fault(".", "status", 403, {"Retry-After": "3"})]
    send(client, "POST")
    assert pauses == [3]


def test_it_does_not_wait_longer_than_it_may(service, client, pauses):
    service.faults = [Fault(".", "status", 429, {"Retry-After": "200"})]
    with pytest.raises(ApiError, match="too many requests, come back in 200 s"):
        client.get("/tickets")
    assert pauses == []


def test_a_call_is_bounded_as_a_whole(service, made, pauses):
    service.faults = [fault("503", times=99)]
    with pytest.raises(ApiError, match="with 503"):
        made(call_s=0.2).get("/tickets")
    assert pauses == []
    assert len(service.requests) == 1


def test_a_service_that_is_silent_is_given_up_sooner(made, monkeypatch, pauses):
    monkeypatch.setattr(api_client, "_SILENCE_S", 0.5)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(64)
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        with pytest.raises(
            ApiError, match=r"no complete answer within 1 s; given up after \d+ s. See that this machine"
        ):
            made(base_url=url, timeout_s=1).get("/tickets")
    assert pauses == []


# What is said ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"message": "PITR is off."}, "400: PITR is off."),
        ({"error": "Bad Request", "message": "name: Required"}, "400: name: Required."),
        ({"error": {"code": "forbidden", "message": "Not in this team", "link": "https://v/x"}},
         "400: Not in this team; https://v/x."),
        ({"status": "invalid", "message": "Event object is invalid", "errors": ["Length of 'routing_key' is 3"]},
         "400: Event object is invalid; Length of 'routing_key' is 3."),
        ({"error": {"message": "Invalid Input", "errors": ["Requester User Not Found"], "code": 2001}},
         "400: Invalid Input; Requester User Not Found."),
        ({"errorMessages": [], "errors": {"project": "project is required"}}, "400: project: project is required."),
        ({"error": ["Name can't be blank"]}, "400: Name can't be blank."),
        ("bad matcher format", "400: bad matcher format."),
        ({"message": "a\n\nb" + "x" * 400}, "400: a b" + "x" * 297 + "."),
        ({"message": None}, "with 400."), ([], "with 400."), (b"<html>", "with 400."), (None, "with 400."),
    ],
)  # fmt: skip
def test_the_service_names_what_is_wrong_and_its_fix(service, client, body, says):
    service.faults = [Fault(".", "status", 400, body=body)]
    with pytest.raises(ApiError) as raised:
        client.get("/tickets")
    assert raised.value.message.endswith(says)
    assert raised.value.message.startswith("Tickets refused GET /tickets with 400")


def test_plain_text_names_it_too(service, client):
    service.faults = [Fault(".", "status", 404, {"Content-Type": "text/plain"}, b"channel_is_archived\n")]
    with pytest.raises(ApiError, match="with 404: channel_is_archived; check the id and api_url"):
        client.post("/hook", {})


def test_a_service_may_have_a_fix_of_its_own(service, made):
    service.faults = [Fault(".", "status", 402), Fault(".", "status", 302, {"Location": "http://127.0.0.1:1/"})]
    client = made(fixes={402: "the plan does not include it"})
    with pytest.raises(ApiError, match="with 402; the plan does not include it"):
        client.get("/tickets")
    with pytest.raises(ApiError, match="with 302; it moved: check api_url"):
        client.get("/tickets")


@pytest.mark.parametrize(
    "message",
    [f"Invalid key {TOKEN}", "x" * 295 + TOKEN, f"https://x/?key={TOKEN}&a=b"],
    ids=["plain", "at the cut", "address"],
)
def test_a_secret_that_the_service_repeats_is_not_shown(service, client, message):
    service.faults = [Fault(".", "status", 401, body={"message": message})]
    with pytest.raises(ApiError) as raised:
        client.get("/tickets")
    assert TOKEN[:4] not in raised.value.message
    assert "check the access token" in raised.value.message


def test_a_secret_address_is_not_shown(service, made):
    secret = "services/T0/B0/s3cr3t"
    service.faults = [Fault(".", "status", 410)]
    client = made(base_url=f"{service.url}/{secret}", headers={}, secrets={"webhook_url": secret})
    with pytest.raises(ApiError, match=r"^Tickets refused POST with 410\.$"):
        client.post("", {"text": "hello"})
    with pytest.raises(ApiError) as raised:
        made(base_url=f"{service.url}/ {secret}", headers={}, secrets={"webhook_url": secret}).post("", {})
    assert secret not in raised.value.message


@pytest.mark.parametrize("said", ["T0C4N4RY1", "https://x/services/T0C4N4RY1", "no hook c4n4ry/ry123 here"])
def test_a_part_of_a_secret_address_is_not_shown_either(service, made, said):
    url = f"{service.url}/services/T0C4N4RY1?sig=c4n4ry%2Fry123"
    service.faults = [Fault(".", "status", 400, body={"message": f"{said}; the services are down"})]
    with pytest.raises(ApiError) as raised:
        made(base_url=url, headers={}, secrets={"webhook_url": url}).post("", {})
    assert "4RY" not in raised.value.message.upper()
    # A plain word of it is none.
    assert "the services are down" in raised.value.message


@pytest.mark.parametrize("token", ["s3cr3t\n", "s3cr3t\r\nX-Other: 1", "s3cr3t–"])
def test_a_token_that_no_header_may_hold_is_refused_without_showing_it(made, token):
    """As a block of YAML gives it, with the line feed at its end."""
    with pytest.raises(
        RunbookError,
        match=r"^token: it holds a line feed, or a letter that no request to Tickets may hold; give it without",
    ) as raised:
        made(headers={"Authorization": f"Bearer {token}"}, secrets={"token": token})
    assert "s3cr3t" not in raised.value.message
    with pytest.raises(RunbookError, match=r"^From: it holds"):
        made(headers={"From": token}, secrets={})


@pytest.mark.parametrize(
    "url", ["http://api.example.com", "HTTP://192.0.2.1", "http://127.0.0.1.example.com", "ftp://x"]
)
def test_a_secret_travels_encrypted_or_not_at_all(made, url):
    with pytest.raises(RunbookError, match="would send token unencrypted; use https"):
        made(base_url=url)
    if url.startswith("http"):
        made(base_url=url, secrets={})


def test_certificates_that_cannot_be_read_are_said_at_once(made, tmp_path):
    with pytest.raises(RunbookError, match=r"ca_cert: .*none\.pem cannot be read \(No such file or directory\)"):
        made(ca_cert=str(tmp_path / "none.pem"))
    (tmp_path / "bad.pem").write_text("x")
    with pytest.raises(RunbookError, match=r"ca_cert: .*bad\.pem cannot be read"):
        made(ca_cert=str(tmp_path / "bad.pem"))


@pytest.fixture
def encrypted(service, tmp_path) -> tuple[str, str]:
    """The service behind TLS: its address, and the file with the authority that signed its certificate."""
    authority = certificate(None)
    chain = save(tmp_path, "server", certificate(authority, host="localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, chain.replace(".crt", ".key"))
    service._server.socket = context.wrap_socket(service._server.socket, server_side=True)
    return service.url.replace("http://127.0.0.1", "https://localhost"), save(tmp_path, "ca", authority)


def test_a_certificate_is_trusted_or_nothing_is_sent(service, made, pauses, encrypted):
    url, authority = encrypted
    assert made(base_url=url, ca_cert=authority).get("/tickets")["more"] is False
    for client in (made(base_url=url), made(base_url=url.replace("localhost", "127.0.0.1"), ca_cert=authority)):
        with pytest.raises(ApiError, match=r"verify failed.*Check api_url, ca_cert and the clock") as raised:
            send(client, "POST")
        assert not raised.value.uncertain
    assert pauses == []
    assert service.requests == ["GET /tickets"]


def test_an_inventory_may_trust_whoever_answers(made, encrypted):
    url, _authority = encrypted
    assert made(base_url=url.replace("localhost", "127.0.0.1"), validate_certs=False).get("/tickets")["more"] is False


def test_a_proxy_of_the_environment_is_not_for_this_machine(client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert client.get("/tickets")["more"] is False


def test_a_proxy_never_carries_what_it_can_read(service, made, monkeypatch):
    """Without a secret an address may be unencrypted, and then no proxy is used."""
    monkeypatch.setenv("http_proxy", service.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ApiError, match="did not answer"):
        made(base_url="http://runbook.invalid", headers={}, secrets={}, call_s=0).get("/tickets")
    assert service.requests == []


# Lists ----------------------------------------------------------------------------------------------------------------

WAYS: list[tuple[api_pages.Follow, tuple[tuple[str, str], ...]]] = [
    (api_pages.by_link, ()),
    (api_pages.by_cursor("pagination", "next", parameter="from"), ()),
    (api_pages.by_next, ()),
    (api_pages.by_offset, (("limit", "2"),)),
    (api_pages.by_number, (("page", "1"),)),
]


@pytest.mark.parametrize(("follow", "query"), WAYS, ids=["link", "cursor", "next", "offset", "number"])
@pytest.mark.parametrize("many", [0, 1, 2, 3, 4, 5])
def test_a_list_is_read_to_its_end(service, client, follow, query, many):
    service.tickets = {str(number): number for number in range(many)}
    assert client.pages("/tickets", follow, items="tickets", query=query) == list(range(many))


@pytest.mark.parametrize(("follow", "query"), WAYS, ids=["link", "cursor", "next", "offset", "number"])
def test_a_list_is_whole_or_an_error(service, client, follow, query):
    service.tickets = {str(number): number for number in range(5)}
    service.faults = [Fault("(?!)", "reset"), fault("503")]
    assert len(client.pages("/tickets", follow, items="tickets", query=query)) == 5
    with pytest.raises(ApiError, match="with 200 and no list ticket"):
        client.pages("/tickets", follow, items="ticket", query=query)
    with pytest.raises(ApiError, match="with 200 and no list;"):
        client.pages("/tickets", follow, items=None, query=query)


@pytest.mark.parametrize(
    ("follow", "body", "says"),
    [
        (api_pages.by_offset, {"t": [1]}, "no field more"),
        (api_pages.by_offset, {"t": [], "more": True}, "more to come, and none of it"),
        (api_pages.by_cursor("p", "next", parameter="from"), {"t": [1]}, "no field p.next"),
        (api_pages.by_cursor("p", parameter="from"), {"t": [1], "p": 7}, "a next page that was there before"),
        (api_pages.by_next, {"t": [1]}, "no field next"),
        (api_pages.by_number, {"t": [1]}, "more than 5 pages"),
    ],
)
def test_a_list_that_does_not_tell_its_end_is_an_error(service, client, monkeypatch, follow, body, says):
    monkeypatch.setattr(api_client, "MAX_PAGES", 5)
    service.faults = [Fault(".", "status", 200, body=body, times=99)]
    with pytest.raises(ApiError, match=says):
        client.pages("/tickets", follow, items="t")


def test_a_link_leads_nowhere_else(service, client):
    """The next page is asked for where the first one was, and the token goes there too."""
    service.tickets = {str(number): number for number in range(3)}
    assert client.pages("/tickets", api_pages.by_link, items="tickets") == [0, 1, 2]
    assert service.requests == ["GET /tickets"] * 2


# Found or made --------------------------------------------------------------------------------------------------------


def ensure(client: ApiClient) -> api_client.Ensured[Any]:
    def find() -> Any:
        found = client.pages("/tickets", api_pages.by_offset, items="tickets")
        return next((ticket for ticket in found if ticket["key"] == "k"), None)

    return client.ensure(find, lambda: (client.post("/tickets", {"key": "k"}) or {}).get("ticket"))


@pytest.mark.parametrize(
    "trouble",
    [
        [], [fault("429", on="POST")], [fault("lost", on="POST")], [fault("early", on="POST")],
        [fault("slow", on="POST")], [fault("lost", on="POST"), fault("503", on="GET", times=3)],
    ],
    ids=["fine", "429", "lost", "early", "slow", "lost-503"],
)  # fmt: skip
def test_a_thing_is_made_once(service, made, trouble):
    # Those of a GET strike the second look.
    first_look = Fault("GET", "slow", times=1)
    service.faults = [first_look, *(Fault(**vars(each)) for each in trouble)]
    client = made()
    if fault("slow", on="POST") in trouble:
        # It happens while it is looked for.
        client = made(timeout_s=1, sleep=lambda _pause_s: service.posted.wait(20))
    first = ensure(client)
    assert first == api_client.Ensured({"key": "k"}, made=True)
    assert ensure(client) == api_client.Ensured({"key": "k"}, made=False)
    assert list(service.tickets.values()) == [{"key": "k"}]


def test_an_empty_answer_is_looked_after(service, client):
    service.faults = [Fault("POST", "status", 201)]
    with pytest.raises(ApiError, match="Tickets said that it made it, and it is not there to be found"):
        ensure(client)
    service.tickets = {"1": {"key": "k"}}
    assert not ensure(client).made


def test_what_somebody_else_made_meanwhile_is_found(service, client):
    service.faults = [Fault("POST", "status", 409, body={"message": "There is one"})]
    looks = iter([None, {"key": "k"}])
    ensured = client.ensure(lambda: next(looks), lambda: client.post("/tickets", {"key": "k"}))
    assert ensured == api_client.Ensured({"key": "k"}, made=False)


@pytest.mark.parametrize("name", ["reset", "503"])
def test_what_may_still_come_is_not_made_again(service, client, pauses, name):
    service.faults = [fault(name, on="POST")]
    with pytest.raises(ApiError, match="It was looked for and not found, and was not made again") as raised:
        ensure(client)
    assert raised.value.uncertain
    assert raised.value.context["status"] == "unknown"
    assert service.requests.count("POST /tickets") == 1
    assert pauses == [1, 2, 4, 8]


def test_what_was_refused_is_refused(service, client):
    service.faults = [Fault("POST", "status", 422, body={"message": "No"})]
    with pytest.raises(ApiError, match="with 422: No") as raised:
        ensure(client)
    assert not raised.value.uncertain


def test_check_mode_plans_what_the_run_would_make(service, made):
    client = made(read_only=True)
    assert ensure(client) == api_client.Ensured(None, made=True)
    assert service.tickets == {}
    service.tickets = {"1": {"key": "k"}}
    assert ensure(client) == api_client.Ensured({"key": "k"}, made=False)


# The log of exchanges -------------------------------------------------------------------------------------------------


def test_exchanges_are_written_down_where_somebody_wants_them(service, client, tmp_path, monkeypatch):
    log: Path = tmp_path / "exchanges.jsonl"
    client.get("/tickets")
    assert not log.exists()
    monkeypatch.setitem(os.environ, EXCHANGES, str(log))
    service.faults = [Fault("GET", "status", 200, body={"made": "up"})]
    client.get("/tickets", (("q", "a b"),))
    client.post("/tickets", {"title": "a"})
    client.text("/metrics")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == [
        {
            "service": "tickets", "method": "POST", "path": "/tickets", "request": {"body": {"title": "a"}},
            "status": 201, "response": {"body": {"number": "1", "ticket": {"title": "a"}}},
        },
        {
            "service": "tickets", "method": "GET", "path": "/metrics", "request": {"body": None}, "status": 200,
            "response": {"body": None},
        },
    ]  # fmt: skip
