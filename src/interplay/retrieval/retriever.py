"""The Python API of retrieval: `Retriever` learns task after task and encodes images and texts for search."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

import interplay.artifacts as artifacts
from interplay.data.picture_sources import Images, Words
from interplay.data.readers import Source, as_table
from interplay.data.schema import Split
from interplay.data.sessions import FEWEST_PICTURES, Session, check_sessions
from interplay.devices import device_of
from interplay.encoding.embedding import SideInputs, embed, image_inputs, text_inputs
from interplay.errors import InterplayError
from interplay.locks import writing
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.retrieval import run_folder
from interplay.retrieval.card import RetrieverCard, fingerprint, model_card, read_card
from interplay.retrieval.keeping import Keep, check_new_task, check_training
from interplay.retrieval.pair_scores import pair_scores
from interplay.seeds import check_seed
from interplay.towers.backbone import Backbone, as_backbone
from interplay.towers.tokens import Side
from interplay.towers.walk import Start, encode
from interplay.training.report import FitReport
from interplay.training.settings import RETRIEVAL_TRAINING, TrainSettings
from interplay.typed import expect

if TYPE_CHECKING:
    from interplay.gallery.gallery import Gallery

BARE = ""
"""The route of an item that takes no session's prompts: it is encoded by the bare towers."""
SHARED = "shared"
"""The route of an item where all sessions share their prompts."""


class Retriever(artifacts.Pretrained, library_name="interplay"):
    """Image-text retrieval over tasks that keep arriving, on a frozen dual encoder.

    Args:
        backbone: a name as `load_backbone` takes it, or a loaded backbone to share.
        method: a method or variant (`interplay methods` lists them); it must not be coupled.
        settings: changes to the method's settings.
        seed: of the prompts' first values.

    Raises:
        InterplayError: an unknown backbone, method or setting; a method that cannot encode one side alone.
    """

    def __init__(
        self,
        backbone: str | Backbone = "tiny",
        method: str = "layer_map",
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        choice = choose(method)
        choice.settings(settings)  # contradictions come out before anything is loaded
        check_seed(seed)
        if not choice.method.traits.solver.retrieves:
            raise InterplayError(
                f"'{method}' is a probe for classification: it has nothing to retrieve with."
            )
        self.method_name = choice.name
        self.settings = dict(settings or {})
        self.seed = seed
        self.identity = uuid.uuid4().hex
        self.backbone = as_backbone(backbone)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.method: Method = choice.build(self.backbone.shape, self.settings).eval()
            self.method.start_from(self.backbone)
        if self.method.traits.coupled and not self.method.sessions.ranks:
            raise InterplayError(
                f"The method '{choice.name}' with these settings lets image and text talk while they are encoded, and "
                "has no prompts by which a session's pairs could be ranked. Choose a method that is not coupled."
            )
        self._data: list[str] = []
        self._training: dict[str, Any] = {}
        self._forgotten: set[str] = set()
        self._seen: set[str] = set()
        self._bare: set[str] = set()

    @property
    def sessions(self) -> tuple[str, ...]:
        """Names of the tasks that were learned, in their order."""
        return tuple(self.method.sessions.names)

    @property
    def bare(self) -> tuple[str, ...]:
        """The tasks that have not helped, so that nothing is kept of their training (`keep`, `layer_map`)."""
        return tuple(name for name in self.sessions if name in {*self._bare, *self.method.sessions.left_out})

    @property
    def needs(self) -> dict[Split, int]:
        """How many pictures a task needs to be learned, by split."""
        splits: tuple[Split, ...] = (
            ("train", "validation") if self.method.traits.solver.by_gradient else ("train",)
        )
        return dict.fromkeys(splits, FEWEST_PICTURES)

    @property
    def backbone_digest(self) -> str:
        """Identity of the backbone's weights."""
        return self.backbone.digest

    @property
    def joint(self) -> int:
        """Width of keys and embeddings."""
        return self.backbone.shape.joint

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, where it encodes from then on; returns itself. The backbone moves for all that share it.

        Raises:
            InterplayError: there is no such device on this machine.
        """
        found = device_of(device)
        self.backbone.to(found)
        self.method.to(found)
        return self

    def learn(
        self,
        name: str,
        pairs: Source,
        *,
        settings: TrainSettings | None = None,
        run: str | Path | None = None,
        resume: bool = False,
        keep: Keep = "trained",
    ) -> FitReport | None:
        """Learn one more task from its image-text pairs; the best epoch is chosen on its `validation` split.

        Where anything goes wrong, the retriever is what it was before.

        Args:
            name: of the task, in words: it takes part in the training of some methods.
            pairs: a table (splits `train` and `validation`), or what `interplay.data.load` takes; rows of one picture
                file are captions of one picture (`by_picture`).
            settings: how to train.
            run: folder for checkpoints and logs of this session; by default a temporary one.
            resume: go on in `run` where a killed session stopped.
            keep: of a method that is trained by gradient: `helpful` keeps what was trained only where it ranks the
                validation rows, among themselves and the training rows, better than what was there before, by more than
                one standard error. Else the task is in `bare`.

        Returns:
            What came out of the training; None for a method that is not trained by gradient.

        Raises:
            InterplayError: the name is taken or empty; no pairs, or too few, in all or in a batch; a loss that is not
                finite; a full disk.
        """
        check_new_task(name, self.sessions)
        table = as_table(pairs, "pairs")
        settings = settings or replace(RETRIEVAL_TRAINING, seed=self.seed)
        check_training(self.method, settings, keep)
        check_sessions([Session(name, table)], self.needs, "Add some, or merge the task with another.")
        from interplay.retrieval.learning import learned

        def standing(side: Side, inputs: SideInputs, keys: Tensor) -> Tensor:
            return self.encode(side, inputs, self.routes(side, keys))

        self.method, report, helped = learned(
            self.method,
            self.backbone,
            Session(name, table),
            settings,
            seed=self.seed,
            run=run,
            resume=resume,
            standing=standing if keep == "helpful" else None,
        )
        if not helped:
            self._bare.add(name)
        self._data.append(table.name)
        self._training = asdict(settings)
        self._forgotten.discard(name)
        return report

    def forget(self, name: str) -> None:
        """Remove a task: its prompts, its keys, and with them every route to it.

        The last task leaves a fresh set of prompts, drawn from the retriever's seed.

        Raises:
            InterplayError: it was not learned, or the method's tasks share their prompts.
        """
        expect("the task's name", name, str)
        if name not in self.sessions:
            known = ", ".join(f"'{known}'" for known in self.sessions) or "none"
            raise InterplayError(f"The task '{name}' was not learned; these were: {known}.")
        at = self.sessions.index(name)
        method = copy.deepcopy(self.method)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            method.sessions.forget(name)
        self.method = method
        self._bare.discard(name)
        del self._data[at]
        self._forgotten.add(name)

    def prepare(self, side: Side, items: Any) -> SideInputs:
        """Image sources or texts as the towers read them."""
        if side == "image":
            return image_inputs(items, self.backbone)
        return text_inputs(items, self.backbone, reserve=self.method.traits.reserve)

    def keys(self, side: Side, items: Sequence[Any] | SideInputs, *, apart: bool = False) -> Tensor:
        """The bare tower's vectors: (N, joint), normalised.

        Args:
            side: `image` or `text`.
            items: image sources or texts, or the same prepared.
            apart: one at a time (`embed`), so that none depends on the others.

        Raises:
            InterplayError: a picture that cannot be read, an empty text.
        """
        prepared = items if isinstance(items, SideInputs) else self.prepare(side, items)
        return embed(prepared, self.backbone, apart=apart)

    def routes(self, side: Side, keys: Tensor) -> list[str]:
        """Which prompts items take: the name of a task, or what stands for several or shared prompts."""
        if self._bare.issuperset(self.sessions):
            return [BARE] * len(keys)
        route = self.method.sessions.route(side, keys)
        if route is None:
            return [SHARED] * len(keys)
        if route.dim() == 1:
            named = [BARE if name in self._bare else name for name in self.sessions]
            return [BARE if at < 0 else named[at] for at in route.tolist()]
        return [",".join(map(str, row)) for row in route.tolist()]

    def margins(self, side: Side, keys: Tensor) -> Tensor | None:
        """How clear each choice of a task was, (N,) >= 0; None where no task is chosen."""
        return self.method.sessions.margin(side, keys) if self.sessions else None

    def encode(
        self, side: Side, items: Sequence[Any] | SideInputs, routes: Sequence[str], *, apart: bool = False
    ) -> Tensor:
        """Vectors by the prompts that the routes name: (N, joint), normalised.

        Args:
            routes: one an item, as `routes` gives them.
            apart: as in `keys`.

        Raises:
            InterplayError: as `keys`; a route to a task that was not learned.
        """
        prepared = items if isinstance(items, SideInputs) else self.prepare(side, items)
        if not len(prepared):
            return torch.zeros(0, self.joint)
        bare = [at for at, route in enumerate(routes) if route == BARE or route in self._bare]
        if len(bare) == len(routes):
            return embed(prepared, self.backbone, apart=apart)
        if not bare:
            return embed(prepared, self.backbone, self.method, self._numbers(routes), apart=apart)
        led = sorted({*range(len(routes))} - {*bare})
        vectors = torch.zeros(len(prepared), self.joint)
        vectors[bare] = embed(prepared.rows(bare), self.backbone, apart=apart)
        chosen = self._numbers([routes[at] for at in led])
        vectors[led] = embed(prepared.rows(led), self.backbone, self.method, chosen, apart=apart)
        return vectors

    def _numbers(self, routes: Sequence[str]) -> Tensor | None:
        """Routes as the method takes them: numbers of sessions, or of prompts; None where nothing is chosen."""
        place = (
            {name: at for at, name in enumerate(self.sessions)} if self.method.sessions.routes_tasks else {}
        )
        if SHARED not in place and all(route == SHARED for route in routes):
            return None
        if not self.method.sessions.routes_tasks:
            return torch.tensor([[int(number) for number in route.split(",")] for route in routes])
        for route in routes:
            if route not in place:
                raise self._unknown(route)
        return torch.tensor([place[route] for route in routes])

    def _unknown(self, task: str) -> InterplayError:
        return InterplayError(f"There is no task '{task}' in this retriever (any more).")

    def version_of(self, route: str) -> str:
        """A fingerprint of what encodes a route: it changes exactly when its prompts do."""
        if route == BARE or route in self._bare:
            return "bare"
        if not self.method.sessions.isolates:
            return fingerprint(self.method)
        own = self.method.sessions.own(route)
        return "gone" if own is None else fingerprint(own)

    def state(self) -> str:
        """A fingerprint that changes when anything that routes or encodes does."""
        return fingerprint(self.method, *self.sessions, *self.bare)

    def encode_images(self, images: Images, *, task: str | None = None) -> Tensor:
        """Pictures to vectors, (N, joint), normalised.

        Args:
            images: one picture or several: paths, bytes, PIL images, arrays, tensors or open files.
            task: encode all of them by one task's prompts; by default each by those of the task it belongs to. Where
                tasks have no prompts of their own it changes nothing.

        Raises:
            InterplayError: a picture that cannot be read; a task that was not learned.
        """
        return self._encode_alone("image", images, task)

    def encode_texts(self, texts: Words, *, task: str | None = None) -> Tensor:
        """Texts to vectors, (N, joint), normalised; arguments as `encode_images`."""
        return self._encode_alone("text", texts, task)

    def _encode_alone(self, side: Side, items: Any, task: str | None) -> Tensor:
        expect("task", task, str | None)
        prepared = self.prepare(side, items)
        if task and task not in self.sessions:
            raise self._unknown(task)
        if task and self.method.sessions.routes_tasks:
            return self.encode(side, prepared, [task] * len(prepared))
        return self.encode(side, prepared, self.routes(side, self.keys(side, prepared)))

    def vectors(self, side: Side, waiting: Tensor | Start, keys: Tensor) -> Tensor:
        """Vectors of a batch that waits before the method's first layer: (N, joint), normalised, on the CPU.

        Args:
            waiting: what the tower reads, or tokens after front layers that the method leaves alone.
            keys: of the same items, which choose their routes.
        """
        routes, vectors = self.routes(side, keys), keys.clone()
        led = [at for at, route in enumerate(routes) if route != BARE]
        if led:
            picked = torch.tensor(led, device=self.backbone.device)
            chosen = self._numbers([routes[at] for at in led])
            some = waiting[picked] if isinstance(waiting, Tensor) else waiting.rows(picked)
            with torch.no_grad():
                found = encode(
                    self.backbone.tower(side),
                    side,
                    some,
                    self.method,
                    route=None if chosen is None else chosen.to(self.backbone.device),
                )
            vectors[led] = F.normalize(found, dim=-1).float().cpu()
        return vectors

    def score_pairs(
        self, images: SideInputs, texts: SideInputs, pairs: Sequence[tuple[int, int]], routes: Sequence[str]
    ) -> Tensor:
        """Cosines of image-text pairs that are encoded together: (pairs,). For methods that need both at once.

        Args:
            images, texts: prepared items.
            pairs: (image, text) by number.
            routes: whose prompts each pair takes.
        """
        numbers = {route: self._numbers([route]) for route in {*routes} - {BARE}}
        return pair_scores(self.backbone, self.method, images, texts, pairs, routes, numbers)

    def index(
        self,
        images: Sequence[str | Path] = (),
        *,
        texts: Sequence[str] = (),
        uri: str | Path = "gallery.db",
        metadata: Sequence[Mapping[str, Any]] | None = None,
        progress: bool = True,
    ) -> Gallery:
        """A gallery of pictures and texts, open for `search`; what is there already is not encoded again.

        Args:
            images: paths of pictures.
            texts: texts.
            uri: a folder for Milvus Lite, or the address of a Milvus server (`Gallery.open`).
            metadata: columns of each picture, for filters.
            progress: show a bar.

        Raises:
            InterplayError: as `Gallery.open` and `Gallery.add_images`.
        """
        from interplay.gallery.gallery import Gallery

        gallery = Gallery.open(self, uri)
        try:
            if images:
                gallery.add_images(images, metadata, progress=progress)
            if texts:
                gallery.add_texts(texts, progress=progress)
        except BaseException:
            gallery.close()
            raise
        return gallery

    def card(self) -> RetrieverCard:
        """What its artefact says."""
        return RetrieverCard(
            identity=self.identity,
            method=self.method_name,
            settings=self.settings,
            seed=self.seed,
            sessions=self.sessions,
            backbone=self.backbone.name,
            backbone_digest=self.backbone.digest,
            bare=tuple(name for name in self.sessions if name in self._bare),
            data=tuple(self._data),
            training=self._training,
            version=artifacts.version(),
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        """Save in one step; a run's folder is freed of checkpoints and of what it holds of forgotten tasks.

        Raises:
            InterplayError: the folder's retriever has learned or forgotten since this one was read from it; another
                process writes there; it cannot be written.
        """
        folder, card = Path(save_directory), self.card()
        with writing(folder):
            run_folder.check_seen(folder, self.identity, self._seen)
            if self._forgotten:  # before the retriever itself: after a kill the same call is made again
                run_folder.erase(folder, self._forgotten)
            artifacts.write_artifact(folder, self.method, asdict(card), model_card(card))
            self._seen.add(artifacts.mark(folder))
            run_folder.tidy(folder, self.sessions)

    @classmethod
    def _opened(cls, folder: Path, backbone: str | Backbone | None) -> Self:
        loaded = as_backbone(backbone or read_card(folder).backbone)
        retriever, mark = artifacts.unchanged(folder, lambda: cls._read(folder, loaded))
        retriever._seen.add(mark)
        return retriever

    @classmethod
    def _read(cls, folder: Path, backbone: Backbone) -> Self:
        card = read_card(folder)
        artifacts.check_backbone(folder, card.backbone, card.backbone_digest, backbone)
        retriever = cls(backbone, card.method, settings=card.settings, seed=card.seed)
        with torch.random.fork_rng():
            for name in card.sessions:
                retriever.method.sessions.begin(name, torch.zeros(backbone.shape.joint))
        artifacts.fill(folder, retriever.method)
        retriever.identity, retriever._bare = card.identity, set(card.bare)
        retriever._data, retriever._training = list(card.data), dict(card.training)
        return retriever
