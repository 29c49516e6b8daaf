"""Waits for functions that know no time limit of their own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(ask: Callable[[], T]) -> T:
    """What a function returns that waits for others, and knows no time limit of its own.

    A pool of threads would be full of those that wait for somebody silent, and would be waited for at the end.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(result: Any, error: Exception | None) -> None:
        if not answer.done():
            answer.set_exception(error) if error else answer.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = ask()
        except Exception as caught:  # for whoever waits
            error = caught
        with suppress(RuntimeError):  # the deadline is over, and the loop is closed
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await answer
