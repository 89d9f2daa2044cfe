"""A sink whose models give their inputs back as outputs."""

import asyncio

from gateway._fast.exchange import Exchange
from gateway._fast.exchange_sink import ExchangeSink
from gateway._fast.tensor_binding import InputTable

class IdentitySink(ExchangeSink):
    """Tests of the HTTP transport, and its own speed. ``hold=True`` keeps exchanges until :meth:`answer`."""

    held: list[Exchange]
    refusals: list[str]
    answered: int

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tables: dict[str, InputTable],
        *,
        hold: bool = False,
        version: str = "1",
    ) -> None: ...
    def tick(self) -> None: ...
    def answer(self, index: int = 0) -> None:
        """Answer one of the held exchanges."""
