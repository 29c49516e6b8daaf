r"""What is said on a ticket, once.

A note has a key, which is written into it and by which it is found again. Its text is plain: no service may read marks
in it, so that a name with asterisks stays what it is, and an ``@`` calls nobody. The report of a run is Markdown, and
the one part that may be shortened.

>>> print(Note("runbook:run-1#vacuum", "Vacuumed a_b for @app.").markdown(200))
Vacuumed a\_b for @&#8203;app.
<BLANKLINE>
<!-- runbook:run-1#vacuum -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.words import count

#: Longest title that GitHub and Jira both take, in characters.
MAX_TITLE = 255
#: How much of a limit is kept for the sentence that says that something is missing.
_RESERVE = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_MARKS = re.compile(r"([\\`*_{}\[\]<>|~+-])")
_WIKI_MARKS = re.compile(r"([\\*_{}\[\]|!?^~+#-])")


@dataclass(frozen=True)
class Note:
    """A note, in no service's own form."""

    #: Of the change, and of the item of its checklists that this note is about.
    key: str
    #: Plain sentences; an empty line parts paragraphs.
    text: str
    #: Markdown.
    report: str = ""

    def markdown(self, limit: int) -> str:
        """As GitHub takes it; the key is in a comment that is not shown.

        :param limit: longest text, in characters
        """
        marker = f"\n\n<!-- {self.key} -->"
        # A character of no width ends what GitHub would take for somebody's name or another ticket's number.
        text = _MARKS.sub(r"\\\1", self.text).replace("#", "#&#8203;").replace("@", "@&#8203;")
        report = self.report.replace("@", "@&#8203;")
        return self._fitted(text, report, limit - len(marker), "\n\n{}") + marker

    def wiki(self, limit: int) -> str:
        """As Jira's version 2 takes it.

        :param limit: longest text, in characters
        """
        text, report = _WIKI_MARKS.sub(r"\\\1", self.text), self.report.replace("{noformat}", "(noformat)")
        end = f"\n\n{self.last_line}"
        return self._fitted(text, report, limit - len(end), "\n\n{{noformat}}\n{}\n{{noformat}}") + end

    def parts(self, limit: int) -> tuple[list[str], str]:
        """Paragraphs, the last of which has the key, and the report, for a form without marks.

        :param limit: longest text, in characters
        """
        whole = self._fitted(self.text, self.report, limit - len(self.last_line), "\0{}")
        text, _, report = whole.partition("\0")
        return [*filter(None, re.split(r"\n{2,}", text.strip())), self.last_line], report

    @property
    def last_line(self) -> str:
        """What names the key where nothing can be hidden."""
        return f"Reference: {self.key}"

    def _fitted(self, text: str, report: str, limit: int, frame: str) -> str:
        """Text and report together, shortened at the end of a line where there is too much."""
        whole = text + (frame.format(report) if report else "")
        if len(whole) <= limit:
            return whole
        if not report:
            return _cut(text, limit)
        return text + frame.format(_cut(report, limit - len(text) - len(frame)))


def _cut(text: str, limit: int) -> str:
    kept = text[: max(limit - _RESERVE, 0)]
    kept = kept[: kept.rfind("\n") + 1] or kept
    left = count(len(text) - len(kept), "character")
    return f"{kept}\n\nShortened: {left} left out. The run's own folder has all of it."


def note_key(change_key: str, item: str) -> str:
    """The key of a note about an item.

    :raises RunbookError: ``item`` is no name

    >>> note_key("runbook:run-1", "vacuum")
    'runbook:run-1#vacuum'
    """
    if not _NAME.fullmatch(item):
        raise RunbookError(
            f"item: {item!r} is no name; give at most 64 letters, digits, dots, colons, dashes and underscores, a "
            "letter or digit first."
        )
    return f"{change_key}#{item}"


def title_of(text: str) -> str:
    r"""A title on one line, as long as services take it.

    >>> title_of("  Weekly\nmaintenance ")
    'Weekly maintenance'
    """
    line = " ".join(text.split())
    return line if len(line) <= MAX_TITLE else f"{line[: MAX_TITLE - 1]}…"
