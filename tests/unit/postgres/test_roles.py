"""What is planned for rights, where the server need not be asked."""

from __future__ import annotations

from ansible.module_utils.runbook.rules.postgres import roles as rules


def test_large_objects_are_opened_up_to_a_bound_and_those_of_others_are_told() -> None:
    """PostgreSQL 18 keeps a lock for each GRANT, and has room for about ten thousand."""
    closed = {"app": (5_001, True), "other": (1, False)}
    opened, said = rules.large_objects(180000, closed)
    assert opened == rules.MOST_LARGE_OBJECTS
    assert said[0].startswith("1 large object of other may not be read by runbook_backup")
    assert "1 is left; run this playbook again" in said[1]
    assert rules.large_objects(170000, {"app": (5_001, True)}) == (5_001, [])
    assert rules.large_objects(170000, {}) == (0, [])


def test_default_privileges_for_large_objects_came_with_18() -> None:
    admin = rules.Admin("postgres", superuser=True)
    owner = rules.Owner("app", superuser=False)
    wanted = rules.Default("app", "SELECT", "LARGE OBJECTS", rules.BACKUP)
    assert wanted in rules.defaults(180000, [owner], admin)
    assert wanted not in rules.defaults(170000, [owner], admin)
