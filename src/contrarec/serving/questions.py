"""The paths that recommend: `/recommend`, `/similar`, `/fold-in`."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from contrarec.serving import schemas as s
from contrarec.serving.service import JSON, PROBLEMS, UNKNOWN, Service, answers

TextId = Annotated[str, Query(max_length=512)]
TextIds = Annotated[
    list[s.TextId], Query(description="May be given several times.", default_factory=list)
]
K = Annotated[int, Query(ge=1, description="Items in the list.")]


def question_routes(service: Service) -> APIRouter:
    """Return the paths whose answers are computed in batches."""
    routes = APIRouter(default_response_class=Response)

    async def recommended(question: s.RecommendRequest) -> Response:
        service.check(question.k, len(question.users) + len(question.exclude))
        return Response(await service.recommend(question), media_type=JSON)

    async def neighbours(question: s.SimilarRequest) -> Response:
        service.check(question.k, len(question.items))
        return Response(await service.similar(question), media_type=JSON)

    @routes.post("/recommend", responses=answers(s.RecommendResponse, PROBLEMS))
    async def recommend(question: s.RecommendRequest) -> Response:
        """Recommend items to users."""
        return await recommended(question)

    @routes.get("/recommend", responses=answers(s.RecommendResponse, PROBLEMS))
    async def recommend_one(
        user: TextId, exclude: TextIds, k: K = 20, include_seen: bool = False
    ) -> Response:
        """Recommend items to one user."""
        question = s.RecommendRequest.model_construct(
            users=[user], k=k, exclude=exclude, include_seen=include_seen
        )
        return await recommended(question)

    @routes.post("/similar", responses=answers(s.SimilarResponse, PROBLEMS, UNKNOWN))
    async def similar(question: s.SimilarRequest) -> Response:
        """Find the items nearest to each of some items."""
        return await neighbours(question)

    @routes.get("/similar", responses=answers(s.SimilarResponse, PROBLEMS, UNKNOWN))
    async def similar_to_one(item: TextId, k: K = 20) -> Response:
        """Find the items nearest to one item."""
        return await neighbours(s.SimilarRequest.model_construct(items=[item], k=k))

    @routes.post("/fold-in", responses=answers(s.FoldInResponse, PROBLEMS))
    async def fold_in(question: s.FoldInRequest) -> Response:
        """Recommend items to users never seen, from their histories."""
        n_ids = sum(map(len, question.histories)) + len(question.exclude)
        service.check(question.k, n_ids)
        return Response(await service.fold_in(question), media_type=JSON)

    return routes
