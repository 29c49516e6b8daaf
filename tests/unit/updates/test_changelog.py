"""What breaks between two versions, as changelogs tell it."""

from ansible.module_utils.runbook.rules.updates.changelog import MAX_LINES, breaking

KEPT = """# Changelog

## [3.0.0] - 2026-03-01

### Added

- Colours.

### Breaking changes

- `open()` takes an object.

#### How to migrate

- Wrap the arguments.

## [2.1.0] - 2026-02-01

### Fixed

- A leak. Node 16 is no longer supported.

## [2.0.0] - 2026-01-01

### Removed

- `close()`.

## [1.0.0]

### Breaking changes

- The first one.
"""


def test_what_breaks_between_the_versions_alone():
    said = breaking(KEPT, "1.0.0", "3.0.0")
    for wanted in ("takes an object", "Wrap the arguments", "no longer supported", "`close()`", "## [2.0.0]"):
        assert wanted in said
    for other in ("Colours", "The first one"):
        assert other not in said
    assert breaking(KEPT, "2.1.0", "3.0.0").splitlines()[0] == "## [3.0.0] - 2026-03-01"


def test_conventional_commits():
    text = (
        "# [3.0.0](https://x/compare/v2.9.9...v3.0.0) (2026-03-01)\n\n### Features\n\n* fast\n\n"
        "### BREAKING CHANGES\n\n* **api:** gone\n\n## [2.9.9](x) (2026-01-01)\n\n* fix\n"
    )
    said = breaking(text, "2.9.9", "3.0.0")
    assert "**api:** gone" in said
    assert "fast" not in said


def test_all_of_it_where_nothing_is_called_breaking_and_nothing_where_nothing_is_told():
    text = "## 2.0.0\n\n- Faster.\n\n## 1.0.0\n\n- First.\n"
    assert breaking(text, "1.0.0", "2.0.0") == "## 2.0.0\n\n- Faster."
    assert breaking(text, "2.0.0", "3.0.0") == ""
    assert breaking("", "1.0.0", "2.0.0") == ""
    assert breaking(text, "latest", "2.0.0") == ""


def test_a_long_one_is_cut():
    text = "## 2.0.0\n" + "\n".join(f"- Removed option {number}" for number in range(500))
    lines = breaking(text, "1.0.0", "2.0.0").splitlines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "(more in the changelog itself)"
