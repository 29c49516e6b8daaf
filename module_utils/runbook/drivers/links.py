"""Where a path leads, and through which places."""

from __future__ import annotations

from pathlib import Path

#: As Linux itself follows at most (path_resolution(7)).
MOST_LINKS = 40


def places(path: Path) -> list[str]:
    """Every place through which an absolute path leads, its end among them; no symbolic link is above any of them."""
    left, at, found, links = list(path.parts[1:]), Path("/"), [], 0
    while left:
        name = left.pop(0)
        if name == "..":
            at = at.parent
            continue
        place = at / name
        found.append(str(place))
        if links < MOST_LINKS and place.is_symlink():
            links += 1
            target = place.readlink()
            at, left = (Path("/"), [*target.parts[1:], *left]) if target.is_absolute() else (at, [*target.parts, *left])
        else:
            at = place
    return found
