"""JSON read as a dataclass: each key is there and of its type, or a sentence says which one is not."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime
from enum import Enum
from typing import Any, Literal


class FieldError(Exception):
    """What is wrong, by its path: ``manifest.objects[3].size_bytes is str, not int``."""


def read(kind: Any, value: Any, path: str) -> Any:
    """``value``, from JSON, as ``kind``: a dataclass, a tuple or dict of one type, a literal, a time, a plain type.

    Keys that the dataclass does not have are let through: a newer version may have written them. No number of whole
    things is negative.

    :param kind: the type, as :func:`typing.get_type_hints` gives it
    :param path: how a sentence calls the value
    :raises FieldError: it is another type's
    """
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object(kind, value, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise FieldError(f"{path} is no list")
        inner = typing.get_args(kind)[0]
        return tuple(read(inner, each, f"{path}[{number}]") for number, each in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise FieldError(f"{path} is no object")
        inner = typing.get_args(kind)[1]
        return {key: read(inner, each, f"{path}.{key}") for key, each in value.items()}
    if origin is Literal:
        if value not in typing.get_args(kind):
            raise FieldError(f"{path} is {value!r}, which this project does not know")
        return value
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise FieldError(f"{path} is {value!r}, which this project does not know") from None
    if origin is types.UnionType:
        return None if value is None else read(typing.get_args(kind)[0], value, path)
    if kind is Any:
        return value
    if kind is datetime:
        return _time(value, path)
    return _plain(kind, value, path)


def _object(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise FieldError(f"{path} is no object")
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    missing = [
        each.name
        for each in fields
        if each.name not in value and each.default is each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise FieldError(f"{path} lacks {', '.join(missing)}")
    return kind(**{
        each.name: read(hints[each.name], value[each.name], f"{path}.{each.name}")
        for each in fields
        if each.name in value
    })  # fmt: skip


def _time(value: Any, path: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise FieldError(f"{path} is {value!r}, not a time with its zone")
    return found


def _plain(kind: Any, value: Any, path: str) -> Any:
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise FieldError(f"{path} is {type(value).__name__}, not {kind.__name__}")
    if kind is int and value < 0:
        raise FieldError(f"{path} is negative")
    return value
