"""Whether an old role is used: where its statements are not counted, nobody knows, and it is not retired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.keys.role_keys import RoleKeys
from ansible.module_utils.runbook.drivers.postgres.postgres import Target
from ansible.module_utils.runbook.rules.keys.definition import parse
from ansible.module_utils.runbook.rules.keys.rotation import Rotation
from keys import DATABASE, ROLES, login_roles

if TYPE_CHECKING:
    from conftest import Database

NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "setting", ["ROLE {role} SET pg_stat_statements.track = 'None'", "DATABASE {name} SET compute_query_id = off"]
)
def test_a_role_whose_statements_are_not_counted_is_not_taken_for_unused(sound_database: Database, setting: str):
    (key,) = parse([DATABASE])
    sound_database.run("CREATE EXTENSION pg_stat_statements")
    target = Target(sound_database.host, sound_database.port, sound_database.name, sound_database.user, None)
    provider, later = RoleKeys(target, lambda _: None), NOW + timedelta(days=2)
    begun = Rotation.begun(key, ROLES[0], None, "dpl_1", NOW)
    with login_roles(sound_database):
        counted = provider.use(key, begun, NOW).sample
        noted = begun.to("proven", NOW, sample=counted)
        assert provider.use(key, noted, later).judge("database", later).status == "ok"
        # The same count, and statements were thrown out, or all were reset, in between.
        for other in ({"evicted": -1}, {"reset_at": "2026-11-28T00:00:00+00:00"}):
            changed = begun.to("proven", NOW, sample={**counted, **other})
            assert provider.use(key, changed, later).judge("database", later).status == "breach"
        sound_database.run(f"ALTER {setting}".format(role=ROLES[0], name=sound_database.name))
        unknown = provider.use(key, noted, later)
        assert (unknown.judge("database", later).status, unknown.sample) == ("unknown", {})
        assert "does not count its statements" in unknown.msg
