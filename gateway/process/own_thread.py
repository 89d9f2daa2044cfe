"""A thread for one piece of work: loading a snapshot beside the loop. A pool's thread would stay."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from gateway.serving.lanes import yield_to_loop

Made = TypeVar("Made")


async def in_thread_of_its_own(work: Callable[[], Made]) -> Made:
    """Run ``work`` on a thread that ends with it; its result, or what it raised."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Made] = loop.create_future()

    def settle(result: Made | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # no error: there is a result

    def body() -> None:
        yield_to_loop()
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits
            tell(None, error)
        else:
            tell(result, None)

    def tell(result: Made | None, error: BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            if not loop.is_closed():  # else nobody waits any more: the process ends
                raise

    threading.Thread(target=body, name="loader", daemon=True).start()
    return await done
