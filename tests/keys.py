"""An application with keys: Vercel, Supabase and the site as fakes, the state store as a folder.

``Work`` is what a module makes of its options, in this process, so that it can be killed after any of its calls.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.drivers.keys.rotations import Application, Store, Watch
from ansible.module_utils.runbook.drivers.keys.supabase_keys import SupabaseKeys
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase
from ansible.module_utils.runbook.rules.change.error_logs import Rule
from ansible.module_utils.runbook.rules.keys.definition import PUBLISHABLE, SECRET, Key, parse
from ansible.module_utils.runbook.rules.keys.rotation import wanted
from ansible.module_utils.runbook.rules.run import Run
from fakes.supabase import REF, FakeSupabase
from fakes.supabase import TOKEN as SUPABASE_TOKEN
from fakes.vercel import OPTIONS, PROJECT, FakeVercel, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pytest
    from ansible.module_utils.runbook.drivers.change.error_logs import Source
    from ansible.module_utils.runbook.drivers.keys.provider import Provider
    from ansible.module_utils.runbook.rules.keys.rotation import Rotation
    from ansible.module_utils.runbook.rules.status import Check
    from conftest import Database

SERVER = {"name": "server", "kind": "supabase_secret", "env": [{"name": "SUPABASE_SECRET_KEY"}]}


UPLOADS = {
    "name": "uploads", "kind": "s3_access_key", "user": "uploads",
    "env": [{"name": "S3_ACCESS_KEY_ID", "part": "id"}, {"name": "S3_SECRET_ACCESS_KEY", "part": "secret"}],
}  # fmt: skip
ROLES = ("keys_app_a", "keys_app_b")
DATABASE = {
    "name": "database", "kind": "database_role", "roles": list(ROLES), "url": "postgresql://db.example.com/app",
    "env": [{"name": "DATABASE_URL", "part": "url"}],
}  # fmt: skip


class Killed(BaseException):
    """``kill -9``: nothing of the process goes on, and no answer comes to it any more."""


@dataclass
class Work:
    """The world, and runs that work in it."""

    folder: Path
    vercel: FakeVercel
    site: Site
    supabase: FakeSupabase
    keys: tuple[Key, ...]
    providers: dict[str, Provider]
    #: Where errors are counted.
    source: Source | None = None
    hidden: set[str] = field(default_factory=set)
    now: datetime | None = None
    environment: str = "sandbox"
    project_id: str = PROJECT
    _runs: Iterator[int] = field(default_factory=itertools.count)

    def application(self) -> Application:
        """As a run of its own sees the application."""
        store = self._store()
        if self.now is not None:
            store.now = self.now
        api = Vercel.from_params(
            OPTIONS | {"api_url": self.vercel.url, "ca_cert": None, "timeout_s": 5}, read_only=False
        )
        return Application(api, store, self.providers, Clock(20), lambda _what, _s: None, poll_s=0.01)

    def watch(self) -> Watch:
        """How the deployment is seen to work."""
        page = ApiClient(
            service="The application", base_url=f"{self.site.url}/keys", headers={}, secrets={}, read_only=True,
            timeout_s=5,
        )  # fmt: skip
        return Watch(page, self.source, Rule(2.0, 5, 0), 1_800)

    def create(self, *names: str) -> list[Check]:
        """What key_rotate does."""
        application = self.application()
        chosen = wanted([application.state(key) for key in self.keys], names)
        application.check(chosen)
        return application.rotate(chosen, self.watch(), 7, lambda _id: None)

    def retire(self, days: float = 8) -> list[Check]:
        """What key_retire does, some days later."""
        self.now = datetime.now(UTC) + timedelta(days=days)
        try:
            application, checks = self.application(), []
            for key in application.unretired(self.keys):
                check = application.may_be_retired(key)
                checks.append(check)
                if check.status == "ok":
                    application.retire(key)
            return checks
        finally:
            self.now = None

    def rotation(self, name: str = "server") -> Rotation | None:
        """How far a key's rotation is."""
        return self._store().all.get(name)

    def phase(self, name: str = "server") -> str:
        """The phase of a key's rotation; empty where there was none."""
        found = self.rotation(name)
        return found.phase if found else ""

    def _store(self) -> Store:
        run_id = f"20261129T020000Z-test-{next(self._runs):06}"
        run = Run(id=run_id, directory=None, host="app", controller="test/1")
        return Store(
            Documents(Folder(self.folder, self.environment), run, self.environment), self.project_id, self.keys
        )

    def deploy(self, **variables: str) -> None:
        """Let the application have variables in it, as its owner would."""
        for name, value in variables.items():
            self.vercel.put_env(name, value, type="sensitive", target=["production"])
        self.vercel.pushed("main", "e" * 40, build=["READY"])

    def live(self, name: str = "SUPABASE_SECRET_KEY") -> str:
        """What the live deployment has in a variable."""
        found = self.site.served()
        assert found is not None
        return str(found["env"].get(name, ""))

    def set(self, name: str = "SUPABASE_SECRET_KEY") -> str:
        """What the next deployment will have in it."""
        (found,) = [each for each in self.vercel.variables.values() if each["key"] == name]
        return str(found["value"])


@contextmanager
def a_world(
    folder: Path, keys: Sequence[Mapping[str, Any]] = (SERVER,), providers: Mapping[str, Provider] | None = None
) -> Iterator[Work]:
    """Everything, with a Supabase secret key in use that is a hundred days old."""
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        vercel, supabase = stack.enter_context(FakeVercel()), stack.enter_context(FakeSupabase())
        vercel.build, vercel.moves = ["BUILDING", "READY"], ["pending", "succeeded"]
        site = stack.enter_context(Site(vercel))
        old = supabase.add_key("default", days_ago=100)
        vercel.put_env("SUPABASE_SECRET_KEY", old["api_key"], type="sensitive", target=["production"])
        vercel.pushed("main", "f" * 40, build=["READY"])
        hidden: set[str] = set()
        api = Supabase(
            api_url=supabase.url, project_ref=REF, access_token=SUPABASE_TOKEN, ca_cert=None, timeout_s=5,
            read_only=False,
        )  # fmt: skip
        ours: dict[str, Provider] = dict.fromkeys((SECRET, PUBLISHABLE), SupabaseKeys(api, hidden.add))
        ours.update(providers or {})
        yield Work(folder / "state", vercel, site, supabase, parse(keys), ours, hidden=hidden)


class Killer:
    """Kills a run after a call; every function through which a call goes out is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: Sequence[tuple[Any, str]]) -> None:
        self.calls = 0
        #: After which call; 0 for never.
        self.after = 0
        for place, name in places:
            monkeypatch.setattr(place, name, self._counted(getattr(place, name)))

    def _counted(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            if self.after and self.calls >= self.after:
                raise Killed
            try:
                return act(*args, **named)
            finally:
                self.calls += 1
                if self.calls == self.after:
                    raise Killed

        return counted

    def begin(self, after: int) -> None:
        """Kill the next run after so many calls."""
        self.calls, self.after = 0, after


#: Through what Vercel, Supabase and the site are asked, and the state store.
HTTP_CALLS: tuple[tuple[Any, str], ...] = ((ApiClient, "_call"), (Folder, "read"), (Folder, "create"),
                                           (Folder, "replace"))  # fmt: skip


def knows_password(database: Database, url: str) -> bool:
    """Whether the server would let in who comes with this address: its role may log in, with this password."""
    user, password = urlsplit(url).username, urlsplit(url).password
    rows = database.run(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}' AND rolcanlogin")
    if not rows or not rows[0][0]:
        return False
    # SCRAM-SHA-256$<rounds>:<salt>$<stored key>:<server key>, RFC 5802
    _, first, keys = rows[0][0].split("$")
    rounds, salt = first.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", str(password).encode(), base64.b64decode(salt), int(rounds))
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored: str = keys.split(":")[0]
    return base64.b64encode(hashlib.sha256(client).digest()).decode() == stored


@contextmanager
def login_roles(database: Database) -> Iterator[str]:
    """A group with rights, and one login role in it, with settings of its own; the role's password."""
    password = "p" * 43
    group = f"{ROLES[0]}_group"
    database.run(
        f"CREATE ROLE {group} NOLOGIN", f"CREATE ROLE {ROLES[0]} LOGIN PASSWORD '{password}' CONNECTION LIMIT 20",
        f"GRANT {group} TO {ROLES[0]}", f"ALTER ROLE {ROLES[0]} SET statement_timeout = '30s'",
        f"ALTER ROLE {ROLES[0]} SET search_path = '$user', app, public",
    )  # fmt: skip
    try:
        yield password
    finally:
        database.run(*(f"DROP ROLE IF EXISTS {role}" for role in (*ROLES, group)))
