"""A trained method as a folder: `method.safetensors` (a few MB), `config.json`, `README.md`.

The truth is one file: the tensors and, in the header of the same `method.safetensors`, the configuration. So an
artefact is whole or not there. `config.json` repeats the header for people and for the hub.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch
from huggingface_hub import ModelHubMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from interplay.errors import InterplayError, brief
from interplay.files import parsed_json, write_atomically, write_text
from interplay.locks import writing
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone
from interplay.typed import expect, fits

WEIGHTS = "method.safetensors"
CONFIG = "config.json"
FORMAT = 1
Task = Literal["classification", "retrieval"]
_LOADERS = {"classification": "Classifier", "retrieval": "Retriever"}
_Read = TypeVar("_Read")


def write_artifact(folder: Path, module: nn.Module, card: Mapping[str, Any], readme: str) -> None:
    """Tensors and card in one safetensors file, the card again as JSON, and a model card; each replaced in one step.

    The one that counts comes last: a change that was killed before is made again in whole.

    Raises:
        InterplayError: it cannot be written, or another process writes there.
    """
    text = json.dumps(card, indent=2, ensure_ascii=False)
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    tensors = tensors or {"empty": torch.zeros(0)}
    about = {"interplay": text, "checksum": checksum(text, tensors)}
    with writing(folder):
        write_text(folder / "README.md", readme)
        write_text(folder / CONFIG, text + "\n")
        write_atomically(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata=about))


def mark(folder: Path) -> str:
    """A digest of the artefact in a folder, another one after every change; empty where there is none."""
    try:
        with (folder / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def unchanged(folder: Path, read: Callable[[], _Read]) -> tuple[_Read, str]:
    """What is read of an artefact, and its mark; read again where a writer put another in its place meanwhile."""
    while True:
        before = mark(folder)
        try:
            found = read()
        except InterplayError:
            if mark(folder) == before:
                raise
        else:
            if mark(folder) == before:
                return found, before


def checksum(card: str, tensors: Mapping[str, Tensor]) -> str:
    """BLAKE2b over the card and every tensor, in the order of its name: what a flipped bit changes."""
    state = hashlib.blake2b(card.encode("utf-8", "surrogatepass"), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def read_header(folder: Path, task: Task | None = None) -> dict[str, Any]:
    """The card of an artefact, as it was written.

    Args:
        task: what it must have been made for; None: anything.

    Raises:
        InterplayError: the folder holds none, it is damaged, pickled, of a newer format, or made for another task.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        if any(name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt")) for name in found):
            raise InterplayError(
                f"{folder} holds a pickled file but no {WEIGHTS}: pickled artefacts are never opened, since they "
                "can run code. Save it again with interplay."
            )
        raise InterplayError(f"{folder} holds no trained method: there is no {WEIGHTS} in it.")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InterplayError(f"{path} is damaged or no safetensors file ({error}).") from error
    header = about.get("interplay")
    if header is None:
        raise InterplayError(f"{path} was not written by interplay: its header does not say what it holds.")
    if more := {*about} - {"interplay", "checksum", "format"}:
        raise InterplayError(
            f"The header of {path} is damaged: it holds '{min(more)}', which nobody writes there."
        )
    raw = parsed_json(header, f"The header of {path}")
    if not isinstance(raw, dict):
        raise InterplayError(f"The header of {path} is damaged: it describes no trained method.")
    if raw.get("format") != FORMAT:
        raise InterplayError(
            f"{path} is of format {_shown(raw.get('format'))}, this version of interplay reads {FORMAT}: update "
            "interplay."
        )
    made_for = raw.get("task", "classification")
    if not fits(made_for, Task):
        raise InterplayError(
            f"{path} was made for {_shown(made_for)}, which this version of interplay does not know: update interplay."
        )
    if task is not None and made_for != task:
        raise InterplayError(
            f"{folder} was made for {made_for}: open it with {_LOADERS[made_for]}.from_pretrained."
        )
    return raw


def card_of(cls: type[Any], folder: Path, task: Task) -> Any:
    """The card of an artefact as its dataclass.

    Raises:
        InterplayError: as `read_header`; a key that is missing, unknown (a newer version wrote it) or of another kind.
    """
    raw, path = read_header(folder, task), folder / WEIGHTS
    known = {field.name: field for field in fields(cls)}
    if more := [key for key in raw if key not in known]:
        raise InterplayError(
            f"{path} says '{more[0]}', which this version of interplay ({version()}) does not know: version "
            f"{_shown(raw.get('version'))} wrote it; update interplay."
        )
    needed = [
        name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING
    ]
    if less := [name for name in needed if name not in raw]:
        raise InterplayError(f"The header of {path} is damaged: it does not say '{less[0]}'.")
    return make_settings(cls, raw, f"the header of {path}")


def _shown(value: Any) -> str:
    """A value of a header in a message."""
    return brief(json.dumps(value, ensure_ascii=False), 60)


def check_backbone(folder: Path, name: str, digest: str, backbone: Backbone) -> None:
    """Whether an artefact was trained on this backbone.

    Raises:
        InterplayError: it was not.
    """
    if digest != backbone.digest:
        raise InterplayError(
            f"{folder} was trained on the backbone '{name}' (weights {digest[:12]}), not on "
            f"'{backbone.name}' ({backbone.digest[:12]}): load that one."
        )


def fill(folder: Path, module: nn.Module) -> None:
    """Give a module the tensors of an artefact; strict.

    Raises:
        InterplayError: they do not fit.
    """
    path = folder / WEIGHTS
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    # Artefacts from before there was a checksum have none.
    if about.get("checksum") not in (None, checksum(about["interplay"], tensors)):
        raise InterplayError(
            f"{path} is damaged: it does not hold what was written. Take it from where it came from again, or train "
            "anew."
        )
    tensors.pop("empty", None)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InterplayError(f"{path} holds values that are no numbers (in '{name:.60}'): train anew.")
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        first = str(error).partition("\n")[2].partition("\n")[0].strip()
        raise InterplayError(f"{path} does not hold what its header describes: {first}") from error


def folder_of(model_id: str, options: Mapping[str, Any]) -> Path:
    """A local artefact's own folder, or one from the hub as a local folder.

    Raises:
        InterplayError: there is none.
    """
    if os.path.isdir(model_id):
        return Path(model_id)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = {
        k: options.get(k) for k in ("revision", "cache_dir", "token", "local_files_only", "force_download")
    }
    try:
        return Path(snapshot_download(model_id, **{k: v for k, v in wanted.items() if v is not None}))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InterplayError(
            f"There is no folder '{model_id}', and no such model could be read from the hub ({type(error).__name__})."
        ) from error


class Pretrained(ModelHubMixin, ABC):
    """What is saved as an artefact and opened from one, in a folder or on the hub.

    `ModelHubMixin` by itself reads `config.json` before the artefact, and takes settings from it.
    """

    @classmethod
    def from_pretrained(  # type: ignore[override]  # names the one further argument that there is
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        backbone: str | Backbone | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> Self:
        """Open what `save_pretrained` wrote; all of it is in `method.safetensors`, and `config.json` is not read.

        Args:
            pretrained_model_name_or_path: a folder, or an id on the Hugging Face hub.
            backbone: the one that it was trained on, loaded or by another name; by default the one that it names.
            revision: branch, tag or commit on the hub; by default `main`.
            token: for the hub; by default the one that is logged in.
            cache_dir: where downloads are kept; by default the hub's cache.
            local_files_only: download nothing.
            force_download: download again what is there.

        Raises:
            InterplayError: there is no such folder or id; it holds no artefact, a damaged one, or one that was made for
                another task; another backbone than it was trained on.
        """
        hub = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
            "force_download": force_download,
        }
        expect("the folder or id", pretrained_model_name_or_path, str | Path)
        return cls._opened(folder_of(str(pretrained_model_name_or_path), hub), backbone)

    @classmethod
    @abstractmethod
    def _opened(cls, folder: Path, backbone: str | Backbone | None) -> Self:
        """The artefact in a folder; errors are those of `from_pretrained`."""


def version() -> str:
    """The installed version of interplay."""
    from importlib.metadata import version as installed

    return installed("interplay")
