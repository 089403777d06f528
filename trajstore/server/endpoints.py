"""Endpoints: functions of a store and a request's parameters to a frame, under `/api/NAME.KIND`.

A pane lists its endpoints with `frames` and `post`. All else is done here: a session in a thread, errors as JSON,
entity tags, limits.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trajstore.errors import TrajstoreError
from trajstore.progress import Progress
from trajstore.server import signatures
from trajstore.server.cache import SliceCache
from trajstore.server.choice import Parameters
from trajstore.server.replies import MEDIA_TYPES, error_reply, frame_reply, json_reply, refusal
from trajstore.server.sessions import Limits, Sessions, TooBusy, Work, WorkStopped
from trajstore.store.store import Store

_LOG = logging.getLogger("trajstore.server")
_MOST_BODY = 1 << 20


@dataclass(frozen=True)
class Service:
    """Parts of a server that its endpoints share: `request.app.state.service`."""

    sessions: Sessions
    cache: SliceCache
    edit: bool
    """True where groups may be saved."""


@dataclass(frozen=True)
class Ask:
    """One request: its store, its parameters, and what it may use."""

    store: Store
    parameters: Parameters
    progress: Progress
    """Ends the work once nobody waits for it; what is said to it goes with the reply."""
    cache: SliceCache
    edit: bool
    limits: Limits
    body: Mapping[str, Any]
    """The JSON object that was posted."""


FrameAnswer = Callable[[Ask], pl.DataFrame]
ValueAnswer = Callable[[Ask], Any]


def frames(
    name: str,
    answer: FrameAnswer,
    *,
    of_chosen: Collection[str] = (),
    of_slices: bool = True,
    outside: ValueAnswer = lambda _: None,
) -> Route:
    """The route `/api/NAME.{arrow,json,csv,parquet}` of a function that gives a frame.

    Its entity tag is over what the store's files hold: all slices, since a group or a model to subtract may lead to
    any, or of those alone that the parameters in `of_chosen` name: of `models`, `model`, `datasets` and `dataset` those
    that the function reads, since one that it does not read chooses nothing. Without `of_slices` it reads none. What
    the answer takes from `outside` of the store is in the tag too.
    """

    async def endpoint(request: Request) -> Response:
        kind = str(request.path_params["kind"])
        if kind not in MEDIA_TYPES:
            return refusal(404, f"There is no {kind} of this.", f"Ask for one of {', '.join(MEDIA_TYPES)}.")

        def reply(ask: Ask, work: Work) -> Response:
            contents = outside(ask), _contents(ask, of_chosen, of_slices)
            tag = signatures.etag(request.url.path, request.url.query, ask.limits.rows, *contents)
            if tag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers={"ETag": tag})
            frame = answer(ask)
            if frame.height > ask.limits.rows:
                work.say(f"Only the first {ask.limits.rows:,} of {frame.height:,} rows are here.")
                frame = frame.head(ask.limits.rows)
            return frame_reply(frame, kind, name.replace("/", "-"), tag, work.notes)

        return await _replied(request, reply)

    return Route(f"/api/{name}.{{kind}}", endpoint, methods=["GET"])


def values(name: str, answer: ValueAnswer) -> Route:
    """The route `/api/NAME` of a function that gives a value, as JSON."""

    async def endpoint(request: Request) -> Response:
        return await _replied(request, lambda ask, _: json_reply(answer(ask)))

    return Route(f"/api/{name}", endpoint, methods=["GET"])


def post(name: str, answer: FrameAnswer | ValueAnswer) -> Route:
    """The route `/api/NAME`, or `/api/NAME.KIND`, of a function of a posted JSON object, `ask.body`.

    Where the function gives a frame, the object's `kind` says as what it is sent, Arrow by default.
    """

    async def endpoint(request: Request) -> Response:
        size, chunks = 0, []
        async for chunk in request.stream():
            size += len(chunk)
            if size > _MOST_BODY:
                return refusal(413, f"More than {_MOST_BODY:,} bytes were posted.", "Post less.")
            chunks.append(chunk)
        try:
            body = json.loads(b"".join(chunks))
            json.dumps(body, ensure_ascii=False).encode()  # half a character is no text
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return refusal(400, "What was posted is no JSON object.", "Post one, as {}.")
        kind = body.get("kind", "arrow")
        if not isinstance(kind, str) or kind not in MEDIA_TYPES:
            return refusal(
                404, "There is no such kind of reply.", f"Ask for one of {', '.join(MEDIA_TYPES)}."
            )

        def reply(ask: Ask, work: Work) -> Response:
            value = answer(ask)
            if isinstance(value, pl.DataFrame):
                return frame_reply(value, kind, name.replace("/", "-"), notes=work.notes)
            return json_reply(value)

        return await _replied(request, reply, body)

    return Route(f"/api/{name}", endpoint, methods=["POST"])


async def _replied(
    request: Request, reply: Callable[[Ask, Work], Response], body: Mapping[str, Any] | None = None
) -> Response:
    """The reply to a request, or its error."""
    service: Service = request.app.state.service

    def answer(store: Store, work: Work) -> Response:
        parameters = Parameters(store, QueryParams(request.url.query))
        return reply(
            Ask(store, parameters, work, service.cache, service.edit, service.sessions.limits, body or {}),
            work,
        )

    try:
        return await service.sessions.run(request, answer)
    except WorkStopped as error:
        return refusal(408, *_halves(error))
    except TooBusy as error:
        return refusal(429, *_halves(error))
    except TrajstoreError as error:
        return error_reply(error)
    except Exception:
        _LOG.exception("%s could not be answered", request.url.path)
        return refusal(
            500, "The server could not answer this.", "What went wrong is where `trajstore serve` runs."
        )


def _halves(error: TrajstoreError) -> tuple[str, str]:
    first, _, rest = str(error).partition(". ")
    return f"{first.rstrip('.')}.", rest


def _contents(ask: Ask, of_chosen: Collection[str], of_slices: bool) -> object:
    """The contents of the files that an answer may be made of."""
    if not of_slices:
        return signatures.selection_contents(ask.store, [], None)

    def chosen(*parameters: str) -> list[str] | None:
        texts = [ask.parameters.names(name) for name in parameters if name in of_chosen]
        return [name for names in texts for name in names or ()] or None

    models = chosen("models", "model")
    on = chosen("datasets", "dataset")
    return signatures.selection_contents(ask.store, models and ask.store.models(models), on)
