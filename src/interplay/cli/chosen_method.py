"""The method that --method, --set and --head choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from interplay.errors import InterplayError
from interplay.key_value import assignments, spelled

if TYPE_CHECKING:
    from interplay.methods.registry import MethodChoice


@dataclass(frozen=True)
class ChosenMethod:
    """A method with the changes to its settings and to those of its head, all of them checked.

    Attributes:
        choice: the method under the name that was given.
        changes, head: what --set and --head say; no head where a command has none.
        automatic: whether no method was named, but the best one is to be found.
    """

    choice: MethodChoice
    changes: Mapping[str, Any]
    head: Mapping[str, Any] | None = None
    automatic: bool = False

    @classmethod
    def of(
        cls, method: str, set: Sequence[str], head: Sequence[str] | None = None, *, auto: bool = False
    ) -> ChosenMethod:
        """What was typed.

        Args:
            auto: whether the method may be `auto`.

        Raises:
            InterplayError: there is no such method or setting, or a value that it cannot hold.
        """
        from interplay.methods.catalogue import AUTO, DEFAULT_METHOD, known_name

        automatic = auto and method == AUTO
        if automatic and set:
            raise InterplayError(
                "--set changes the settings of one method: name it by --method, in place of auto."
            )
        method = DEFAULT_METHOD if automatic else method
        known_name(method)  # refused before torch is imported
        from interplay.methods.registry import choose
        from interplay.parts.heads import HeadSettings

        choice = choose(method)
        changes = assignments(set, choice.method.Settings, "--set")
        read = None if head is None else assignments(head, HeadSettings, "--head")
        chosen = cls(choice, changes, read, automatic)
        chosen.config("")  # contradictions are told before anything is loaded
        return chosen

    @property
    def name(self) -> str:
        """Of the method or variant, or `auto`."""
        from interplay.methods.catalogue import AUTO

        return AUTO if self.automatic else self.choice.name

    def config(self, backbone: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The choice with all settings spelled out, as `config.yaml` of a run holds it.

        Args:
            backbone: beside the method.
            changes: to the method's settings, in place of those that were typed.
        """
        from interplay.parts.heads import HeadSettings
        from interplay.settings import make_settings

        settings = self.choice.settings(self.changes if changes is None else changes)
        words = [] if self.automatic else spelled(asdict(settings))
        config = {"method": self.name, "backbone": backbone, "set": words}
        if self.head is None:
            return config
        return config | {"head": spelled(asdict(make_settings(HeadSettings, self.head, "the head")))}
