"""The JSON of requests and answers, as the OpenAPI page shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from interplay.service.requests import Item, ModelState, Pair, Prediction


class Message(BaseModel):
    """A request or a part of one: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


Picture: TypeAlias = Annotated[
    str,
    Field(description="A data URI, bare base64, or an address where the service fetches addresses."),
]


class ImageUrl(Message):
    """A picture in OpenAI's form."""

    url: Picture
    detail: str | None = Field(None, description="Taken and not used.")


class PairMessage(Message):
    """A pair to be classified."""

    image: Picture | None = None
    text: str | None = None

    def plain(self) -> Pair:
        """The same for the core."""
        return Pair(self.image, self.text)


class ClassifyRequest(Message):
    """Pairs for one classifier."""

    model: str = Field(description="The run's name, as GET /v1/models lists it.")
    pairs: list[PairMessage]
    abstain_below: float | None = Field(
        None, description="No label where even the highest probability is smaller; above 0 and up to 1."
    )


class ClassifyResult(BaseModel):
    """What a classifier says of a pair."""

    labels: list[str] = Field(
        description="The class, or all classes above one half; empty where it abstained."
    )
    probabilities: dict[str, float]
    abstained: bool

    @classmethod
    def of(cls, prediction: Prediction) -> ClassifyResult:
        """The core's answer as a message."""
        return cls(
            labels=list(prediction.labels),
            probabilities=dict(prediction.probabilities),
            abstained=prediction.abstained,
        )


class ClassifyAnswer(BaseModel):
    """One result a pair, in their order."""

    model: str
    results: list[ClassifyResult]


class ItemMessage(Message):
    """A picture, a text, or both in one."""

    type: Literal["text", "image_url"] | None = Field(None, description="Taken and not used.")
    text: str | None = None
    image: Picture | None = None
    image_url: ImageUrl | Picture | None = None

    def plain(self) -> Item:
        """The same for the core."""
        url = self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url
        return Item(self.image if self.image is not None else url, self.text)


Modality: TypeAlias = Literal["text", "image"]


class EmbeddingsRequest(Message):
    """Inputs for one retriever, in OpenAI's form."""

    model: str = Field(description="The retriever's name; with :image or :text behind it the side is fixed.")
    input: str | ItemMessage | list[str | ItemMessage]
    modality: Modality | None = Field(
        None,
        description="What the strings of `input` are; by default data URIs are pictures, the rest texts.",
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Only the width that the vectors have.")
    user: str | None = Field(None, description="Taken and not used.")


class Embedding(BaseModel):
    """One vector, normalised to length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class Usage(BaseModel):
    """Words of the texts; there is nothing to be paid."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """One vector an input, in their order."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: Usage


class SearchRequest(Message):
    """A query for the gallery of one retriever."""

    model: str
    query: str | ItemMessage = Field(description="A text, the data URI of a picture, or an item with both.")
    k: int = 10
    find: Modality = "image"
    where: str | None = Field(None, description="A Milvus filter over metadata: price < 80 and brand == 'x'.")
    least_probability: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Hits that are less probably right are left out, where that is calibrated.",
    )


class HitMessage(BaseModel):
    """One result of a search."""

    key: str = Field(description="Of the entry; its thumbnail is at /v1/galleries/MODEL/thumbnails/KEY.")
    id: str
    side: Modality
    source: str = Field(description="The text, or the name of the picture's file.")
    score: float
    probability: float | None = Field(
        description="That it is a right one; null where that is not calibrated."
    )
    route: str
    stale: bool
    missing: bool
    changed: bool
    metadata: dict[str, Any]


class SearchAnswer(BaseModel):
    """Hits, best first."""

    model: str
    found: bool = Field(description="Whether there is a hit at all.")
    hits: list[HitMessage]


Value: TypeAlias = str | int | float | bool | list[str] | list[int] | list[float] | list[bool]


class EntryMessage(Message):
    """A picture or a text for a gallery."""

    text: str | None = None
    image: Picture | None = None
    id: str = Field("", description="Your own; an entry with the same id gives way.")
    metadata: dict[str, Value] = Field(default_factory=dict)

    def plain(self) -> Item:
        """What it holds, for the core."""
        return Item(self.image, self.text)


class EntriesRequest(Message):
    """What is to be in the gallery of a retriever."""

    entries: list[EntryMessage]


class EntriesAnswer(BaseModel):
    """What became of it."""

    added: int
    present: int
    updated: int
    replaced: int
    entries: int = Field(description="That the gallery has now.")


class RefreshAnswer(BaseModel):
    """What a refresh did."""

    scanned: int
    rerouted: int
    reencoded: int
    missing: int
    seconds: float


class LoadRequest(Message):
    """A run to be loaded."""

    model: str


class ModelMessage(BaseModel):
    """A run."""

    object: Literal["model"] = "model"
    id: str
    created: int = 0
    owned_by: str = "interplay"
    task: str
    method: str
    backbone: str
    loaded: bool
    labels: list[str]
    kind: str
    reads: list[str]
    sessions: list[str]
    metrics: dict[str, float]
    entries: int | None
    waiting: int

    @classmethod
    def of(cls, state: ModelState) -> ModelMessage:
        """The core's answer as a message."""
        return cls(
            id=state.name,
            task=state.task,
            method=state.method,
            backbone=state.backbone,
            loaded=state.loaded,
            labels=list(state.labels),
            kind=state.kind,
            reads=list(state.reads),
            sessions=list(state.sessions),
            metrics=dict(state.metrics),
            entries=state.entries,
            waiting=state.waiting,
        )


class ModelsAnswer(BaseModel):
    """All runs that the token may use."""

    object: Literal["list"] = "list"
    data: list[ModelMessage]


class Unloaded(BaseModel):
    """What became of a run."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = Field(description="Whether it was in memory; its folder stays.")


class Fault(BaseModel):
    """What was wrong, and what to do."""

    message: str
    type: str
    code: str
    param: str | None


class FaultAnswer(BaseModel):
    """An answer other than 2xx, in OpenAI's form."""

    error: Fault
