"""Play flights of later months against a running gateway, over gRPC and HTTP at once."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import httpx
import numpy as np
import pandas as pd
from data import COLUMNS, LIVE_MONTHS, NUMBERS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text
from train import MODEL

from gateway.serving._generated import inference_pb2 as oip

#: Requests in flight of each protocol.
GRPC_CONCURRENCY = 32
HTTP_CONCURRENCY = 8
#: Of the requests, how many go over HTTP.
HTTP_SHARE = 0.25
SEED = 7

Flight = dict[str, Any]


class RequestFailed(Exception):
    """The gateway answered with an error, or not at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One flight's answer, with what became of the flight."""

    prediction_id: str
    version: str
    record: str
    month: int
    late: bool


@dataclass(frozen=True)
class Played:
    """All answers of a run."""

    answers: list[Answer]
    grpc_per_second: float
    http_per_second: float


def choose_flights(rows: pd.DataFrame, count: int) -> list[Flight]:
    """`count` flights of the later months, the same number of each, in the order of departure."""
    later = rows[rows["month"].isin(LIVE_MONTHS)]
    per_month = math.ceil(count / len(LIVE_MONTHS))
    chosen = later.groupby("month", group_keys=False).sample(per_month, random_state=SEED, replace=False).sort_index()
    flights: list[Flight] = chosen.head(count).to_dict("records")
    return flights


async def play(flights: list[Flight], grpc_address: str, http_url: str, console: Console) -> Played:
    """Send every flight once. RequestFailed at the first one that is not answered."""
    over_http = np.random.default_rng(SEED).random(len(flights)) < HTTP_SHARE
    answers: list[Answer] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:

        async def run(title: str, chosen: Iterable[Flight], total: int, concurrency: int, ask: Ask) -> float:
            task = progress.add_task(title, total=total)

            def arrived(answer: Answer) -> None:
                answers.append(answer)
                progress.advance(task)

            return await in_parallel(iter(chosen), concurrency, ask, arrived)

        async with grpc_client(grpc_address) as ask_grpc, http_client(http_url) as ask_http:
            by_grpc = [flight for flight, http in zip(flights, over_http, strict=True) if not http]
            by_http = [flight for flight, http in zip(flights, over_http, strict=True) if http]
            rates = await asyncio.gather(
                run("gRPC", by_grpc, len(by_grpc), GRPC_CONCURRENCY, ask_grpc),
                run("HTTP", by_http, len(by_http), HTTP_CONCURRENCY, ask_http),
            )
    return Played(answers, *rates)


Ask = Callable[[Flight], Awaitable[Answer]]


async def in_parallel(
    flights: Iterator[Flight], concurrency: int, ask: Ask, arrived: Callable[[Answer], None]
) -> float:
    """Keep `concurrency` requests in flight until none is left; requests per second."""
    sent = 0

    async def one_after_the_other() -> None:
        nonlocal sent
        for flight in flights:  # shared: each takes the next one
            sent += 1
            arrived(await ask(flight))

    began = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(one_after_the_other())
    except ExceptionGroup as failures:
        # The first is the reason, the others are its neighbours.
        raise failures.exceptions[0] from None
    return sent / (time.perf_counter() - began)


# Open Inference Protocol over gRPC: a tensor per column.


@asynccontextmanager
async def grpc_client(address: str) -> AsyncIterator[Ask]:
    async with grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )

        async def ask(flight: Flight) -> Answer:
            call = infer(infer_request(flight), timeout=30)
            try:
                await call
                metadata = await call.trailing_metadata()
            except grpc.aio.AioRpcError as error:
                raise RequestFailed(f"gRPC: {error.code().name}: {error.details()}") from error
            return answer(flight, {str(key): str(value) for key, value in metadata or ()})

        yield ask


def infer_request(flight: Flight) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=MODEL)
    for column in COLUMNS:
        datatype = "FP64" if column in NUMBERS else "BYTES"
        request.inputs.add(name=column, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw(flight[column]))
    return request


def raw(value: float | str) -> bytes:
    """One element as the protocol has it: little-endian, text behind its length."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    text = value.encode()
    return len(text).to_bytes(4, "little") + text


# Records over HTTP.


@asynccontextmanager
async def http_client(url: str) -> AsyncIterator[Ask]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:

        async def ask(flight: Flight) -> Answer:
            try:
                reply = await client.post(f"/v1/models/{MODEL}:predict", json={"instances": [record(flight)]})
            except httpx.HTTPError as error:
                raise RequestFailed(f"HTTP: {type(error).__name__}: {error}") from error
            if reply.status_code != httpx.codes.OK:
                raise RequestFailed(f"HTTP: {reply.status_code}: {reply.text}")
            return answer(flight, reply.headers)

        yield ask


def record(flight: Flight) -> Flight:
    """The columns as JSON has them: null where a value is missing."""
    return {column: None if flight[column] != flight[column] else flight[column] for column in COLUMNS}


def answer(flight: Flight, headers: Any) -> Answer:
    try:
        return Answer(
            headers["x-prediction-id"], headers["x-model-version"], headers["x-record-state"], flight["month"],
            flight["late"],
        )  # fmt: skip
    except KeyError as error:
        raise RequestFailed(f"a reply came without {error}; it has {', '.join(headers)}") from error


class Rate(ProgressColumn):
    """Requests a second since the beginning."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:,.0f}/s", style="progress.data.speed")
