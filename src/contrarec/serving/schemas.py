"""What may be asked over HTTP, and what is answered."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contrarec.config import require, settle

MAX_HISTORIES = 32
"""Histories in a call: each takes as long as many known users, and others wait meanwhile."""

TextId = Annotated[str, Field(strict=True, max_length=512)]
Id = TextId | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
"""A user's or an item's: as in the data, or its text."""
K = Annotated[int, Field(strict=True, ge=1, description="Items in each list.")]
Exclude = Annotated[
    list[Id], Field(description="Items that are not wanted; unknown ones do no harm.")
]
Seen = Annotated[
    bool, Field(strict=True, description="Whether items of the user's history may be recommended.")
]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one call may ask for; the server refuses more."""

    max_k: int = 500
    """Items in a list."""
    max_ids: int = 1000
    """Ids in a call, all lists of them together."""
    max_body: int = 1 << 20
    """Bytes of a request's body."""
    max_waiting: int = 1024
    """Calls of one kind that wait for their answer."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("max_k", "max_ids", "max_body", "max_waiting"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecommendRequest(_Body):
    """Items for users that training knew; others get the most popular items."""

    users: Annotated[list[Id], Field(min_length=1)]
    k: K = 20
    exclude: Exclude = []
    include_seen: Seen = False


class FoldInRequest(_Body):
    """Items for users never seen, from what they have interacted with."""

    histories: Annotated[list[list[Id]], Field(min_length=1, max_length=MAX_HISTORIES)]
    k: K = 20
    exclude: Exclude = []
    include_seen: Seen = False


class SimilarRequest(_Body):
    """The items nearest to items."""

    items: Annotated[list[Id], Field(min_length=1)]
    k: K = 20


class Item(BaseModel):
    """An item of a list."""

    item_id: str | int
    score: Annotated[float, Field(description="The model's; a popularity list has counts.")]
    rank: Annotated[int, Field(description="From 1.")]
    popularity: Annotated[int, Field(description="Training interactions of the item.")]


Source = Annotated[
    Literal["model", "popularity"],
    Field(description="`popularity` if nothing is known of the user: the most popular items."),
]


class UserList(BaseModel):
    """A user's recommendations."""

    user_id: str | int
    source: Source
    items: list[Item]


class RecommendResponse(BaseModel):
    """Lists in the order of the users."""

    run: Annotated[str, Field(description="Name of the run that answered.")]
    results: list[UserList]


class FoldInList(BaseModel):
    """Recommendations for a history."""

    history: Annotated[int, Field(description="Position of the history, from 0.")]
    source: Source
    unknown_items: Annotated[int, Field(description="Ids of the history that were left out.")]
    items: list[Item]


class FoldInResponse(BaseModel):
    """Lists in the order of the histories."""

    run: str
    results: list[FoldInList]


class SimilarList(BaseModel):
    """An item's neighbours."""

    item_id: str | int
    items: list[Item]


class SimilarResponse(BaseModel):
    """Lists in the order of the items."""

    run: str
    results: list[SimilarList]


class HistoryItem(BaseModel):
    """An item that a user has interacted with."""

    item_id: str | int
    popularity: int


class HistoryResponse(BaseModel):
    """A user's training interactions, the most popular items first."""

    run: str
    user_id: str | int
    total: Annotated[int, Field(description="Items of the history, listed or not.")]
    items: list[HistoryItem]


class UsersResponse(BaseModel):
    """User ids that start with a text, in the order of their texts."""

    run: str
    users: list[str | int]


class InfoResponse(BaseModel):
    """What is being served."""

    run: str
    backbone: str
    method: str
    users: int
    items: int
    interactions: int
    max_popularity: Annotated[int, Field(description="Interactions of the most popular item.")]
    similar: Annotated[bool, Field(description="Whether the model knows similar items.")]
    max_k: int
    max_ids: int


class Health(BaseModel):
    """That the process answers."""

    status: Literal["ok"]
    version: str


class Readiness(BaseModel):
    """Whether requests should be sent here."""

    ready: bool
    run: str


class Problem(BaseModel):
    """Why there is no answer."""

    error: str
