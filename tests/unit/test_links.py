"""Where a path leads."""

from __future__ import annotations

from ansible.module_utils.runbook.drivers import links
from ansible.module_utils.runbook.rules import run


def test_every_place_on_the_way_is_named(tmp_path):
    """A standing word counts nowhere that leads through the inventory, in whatever way its links lie."""
    root = tmp_path.resolve()
    inventory, outside = root / "production", root / "outside"
    for folder in (inventory, outside, root / "aliases"):
        folder.mkdir()
    (outside / "yes.yml").touch()
    (inventory / "standing.yml").symlink_to("../outside/yes.yml")
    (inventory / "more").symlink_to(outside)
    (root / "aliases" / "folder").symlink_to(inventory)
    (root / "aliases" / "file.yml").symlink_to(inventory / "standing.yml")
    (inventory / "own.yml").touch()
    (outside / "in.yml").symlink_to(inventory / "own.yml")

    def counts(path: str) -> bool:
        said = run.command_line([(links.places(root / path), {"confirm": "production"})], [str(inventory)])
        return said["confirm"] == "production"

    for path in (
        "production/standing.yml", "production/more/yes.yml", "aliases/folder/standing.yml", "aliases/file.yml",
        "aliases/folder/more/yes.yml", "outside/in.yml", "production/own.yml",
    ):  # fmt: skip
        assert not counts(path), path
    for path in ("outside/yes.yml", "production/../outside/yes.yml", "production-old/none.yml"):
        assert counts(path), path


def test_a_link_to_itself_ends(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert links.places(tmp_path / "loop")[-1].endswith("loop")
