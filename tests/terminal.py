"""A terminal that knows just the control sequences that live progress uses."""

from __future__ import annotations


def screen(raw: str, width: int = 80) -> list[str]:
    """The lines that a terminal shows after ``raw``: it knows just what the bars use."""
    lines, row, column = [""], 0, 0
    position = 0
    while position < len(raw):
        character = raw[position]
        position += 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif character == "\x1b":
            end = position + 1
            while not raw[end].isalpha():
                end += 1
            code, number = raw[end], raw[position + 1 : end]
            position = end + 1
            if code == "A":
                row = max(0, row - int(number))
            elif code == "J":
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            else:
                assert code in "mK", code
        else:
            if column == width:
                row, column = row + 1, 0
                if row == len(lines):
                    lines.append("")
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]
