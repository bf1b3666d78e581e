"""The paths about what is served: its users, their histories, its state and its metrics."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Response

from contrarec.serving import schemas as s
from contrarec.serving.metrics import CONTENT_TYPE
from contrarec.serving.service import PROBLEMS, UNKNOWN, Service, answers, json_response

Limit = Annotated[int, Query(ge=1, le=500)]


def about_routes(service: Service) -> APIRouter:
    """Return the paths that need no product."""
    routes = APIRouter(default_response_class=Response)

    @routes.get("/health", responses=answers(s.Health))
    async def health() -> Response:
        """Tell that the process answers."""
        return json_response({"status": "ok", "version": version("contrarec")})

    @routes.get("/ready", responses=answers(s.Readiness, {503: {"model": s.Readiness}}))
    async def ready() -> Response:
        """Tell whether requests should be sent here: not any more once the server stops."""
        state = {"ready": not service.stopping, "run": service.live.model.run}
        return json_response(state, 503 if service.stopping else 200)

    @routes.get("/info", responses=answers(s.InfoResponse, PROBLEMS))
    async def info() -> Response:
        """Describe the run and the limits."""
        model, limits = service.live.model, service.limits
        more = {"similar": not model.no_similar, "max_k": limits.max_k, "max_ids": limits.max_ids}
        return json_response(model.about | more)

    @routes.get("/users", responses=answers(s.UsersResponse, PROBLEMS))
    def users(prefix: Annotated[str, Query(max_length=512)] = "", limit: Limit = 20) -> Response:
        """List user ids that start with a text."""
        model = service.live.model
        return json_response({"run": model.run, "users": model.users.starting(prefix, limit)})

    @routes.get("/history", responses=answers(s.HistoryResponse, PROBLEMS, UNKNOWN))
    def history(user: Annotated[str, Query(max_length=512)], limit: Limit = 100) -> Response:
        """List what a user has interacted with, the most popular items first."""
        return json_response(service.live.model.history_of(user, limit))

    @routes.get("/metrics", responses=PROBLEMS | {200: {"content": {CONTENT_TYPE: {}}}})
    def metrics() -> Response:
        """Give Prometheus what it asks for."""
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    return routes
