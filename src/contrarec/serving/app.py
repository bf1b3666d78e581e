"""The HTTP application, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from contrarec.errors import ConfigError
from contrarec.serving import page
from contrarec.serving.about import about_routes
from contrarec.serving.batching import OverloadedError
from contrarec.serving.guard import KEY_HEADER, Guard, is_open
from contrarec.serving.live import Live
from contrarec.serving.metrics import Measured, Metrics
from contrarec.serving.model import UnknownIdError
from contrarec.serving.questions import question_routes
from contrarec.serving.schemas import Limits
from contrarec.serving.service import Service, json_response

_KINDS = ("constrained-str", "constrained-int")  # pydantic's names for what an id may be


def make_app(live: Live, *, key: str | None = None, limits: Limits | None = None) -> FastAPI:
    """Make the application; `app.state.service` is what answers.

    Args:
        live: the model.
        key: what requests have to bring; None for none.
        limits: of one call.
    """
    limits = limits or Limits()
    metrics = Metrics()
    service = Service(live, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="contrarec",
        version=version("contrarec"),
        description="Recommendations from a trained run.",
        docs_url=None,  # its page loads from elsewhere; `page` has one of ours
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(question_routes(service))
    app.include_router(about_routes(service))
    page.add_routes(app)
    _answer_problems(app)
    described = app.openapi()
    if key is not None:
        _describe_key(described)
    app.add_middleware(Guard, key=key, max_body=limits.max_body)
    app.add_middleware(Measured, metrics=metrics, paths=frozenset(described["paths"]) | page.PATHS)
    return app


def _answer_problems(app: FastAPI) -> None:
    """Give every refusal the same form: a status, and one sentence."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _problem(422, _first_fault(error))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, error.detail, error.headers)

    @app.exception_handler(UnknownIdError)
    async def unknown(_: Request, error: UnknownIdError) -> Response:
        return _problem(404, str(error))

    @app.exception_handler(ConfigError)
    async def impossible(_: Request, error: ConfigError) -> Response:
        return _problem(422, str(error))

    @app.exception_handler(OverloadedError)
    async def overloaded(_: Request, __: OverloadedError) -> Response:
        return _problem(503, "too many calls are waiting; try again.", {"retry-after": "1"})

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:  # logged by the server
        return _problem(500, "the server has failed; its log says how.")


def _problem(status: int, error: str, headers: Any = None) -> Response:
    return json_response({"error": error}, status, headers)


def _first_fault(error: RequestValidationError) -> str:
    """Say where the first fault is and what it is; what was given may be anything and is not."""
    fault = error.errors()[0]
    what = fault["msg"][:1].lower() + fault["msg"][1:]
    where = ".".join(str(part) for part in fault["loc"][1:] if part not in _KINDS)
    if any(part in _KINDS for part in fault["loc"]):
        what = "an id must be a text of at most 512 characters or a 64-bit whole number"
    return f"`{where}`: {what}." if where and where.isprintable() else f"{what}."


def _describe_key(description: dict[str, Any]) -> None:
    """Write into the OpenAPI description which paths need the key."""
    components = description.setdefault("components", {})
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, methods in description["paths"].items():
        if not is_open(path):
            for method in methods.values():
                method["security"] = [{"key": []}, {"bearer": []}]
