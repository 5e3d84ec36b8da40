"""BERT (Devlin et al., NAACL 2019) as a tower: the text side of detectors that are prompted with words.

Prompts are added onto the first rows, start token and words alike (LPI on GLIP; its released code): the row stays as
long as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.towers.activations import activation
from interplay.towers.tokens import AS_IT_IS, Tokens, Tower, TowerShape, check_plain, no_vector

PAD = 0
"""The id of padding in every vocabulary of BERT's."""


class BertBlock(nn.Module):
    """One layer with its norms after the sums, and fused query, key and value projections."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm1 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.activation = activation(shape.activation)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        mask: Bool[Tensor, "batch rows length"],
        prefix: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """(batch, length, width) → the same.

        Args:
            mask: (batch, 1 or length, length), True where a row may look.
            prefix: further keys and values (batch, prompts, width), projected already, that every row may look at.
        """

        def split(part: Tensor) -> Tensor:
            return part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)

        q, k, v = (split(part) for part in self.qkv(x).chunk(3, dim=-1))
        if prefix is not None:
            k, v = torch.cat([split(prefix[0]), k], dim=2), torch.cat([split(prefix[1]), v], dim=2)
            mask = F.pad(mask, (prefix[0].shape[1], 0), value=True)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        x = self.norm1(x + self.out(seen.transpose(1, 2).flatten(2)))
        change = self.fc2(self.activation(self.fc1(x)))
        found: Tensor = self.norm2(x + change)
        return found


class BertTower(Tower):
    """BERT without its pooler. Reads token ids (batch, length), padded on the right with 0.

    Prompts (length, width) are added onto the first rows; a row that is shorter gets padding for them, which no token
    looks at. Prompts that are put where there are some replace what those rows hold.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.types = nn.Embedding(2, shape.width)
        self.norm_in = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.blocks = nn.ModuleList(BertBlock(shape) for _ in range(shape.depth))

    def embed(self, inputs: Tensor, *, context: Tensor | None = None, split: int | None = None) -> Tokens:
        """Token ids to tokens, with `context` put onto the first ones.

        Raises:
            InterplayError: more ids than positions; prompts that come before the positions (`split`).
        """
        if split is not None:
            raise InterplayError("BERT adds prompts onto its tokens: it takes none between words.")
        tokens = Tokens(self._rows(inputs, 0), lengths=(inputs != PAD).sum(dim=1))
        return tokens if context is None else self.put(tokens, context)

    def _rows(self, ids: Tensor, first: int) -> Tensor:
        """The embeddings of ids that stand from position `first`."""
        end = first + ids.shape[1]
        if end > self.shape.positions:
            raise InterplayError(f"{end} text tokens exceed BERT's {self.shape.positions} positions.")
        x = self.words(ids) + self.positions.weight[first:end] + self.types.weight[0]
        found: Tensor = self.norm_in(x)
        return found

    def real(self, tokens: Tokens) -> Tensor:
        """(batch, length) True for rows that are no padding."""
        assert tokens.lengths is not None
        return torch.arange(tokens.x.shape[1], device=tokens.x.device) < tokens.lengths[:, None]

    def layer(self, i: int, tokens: Tokens, *, block: Any = None) -> Tokens:
        """Frozen layer `i`: every row sees every token that is no padding."""
        check_plain(tokens, "BERT")
        chosen: BertBlock = self.blocks[i] if block is None else block  # type: ignore[assignment]
        prefix = tokens.next.prefix
        if prefix is not None:
            keys, values = (
                part.to(tokens.x.dtype).expand(len(tokens.x), *part.shape[-2:]).contiguous()
                for part in prefix
            )
            prefix = keys, values
        return replace(tokens, x=chosen(tokens.x, self.real(tokens)[:, None], prefix), next=AS_IT_IS)

    def slots(self, tokens: Tokens) -> Tensor:
        """The first rows, (batch, prompts, width)."""
        return tokens.x[:, : tokens.prompts]

    def put(self, tokens: Tokens, prompt: Tensor, *, see_all: bool = False) -> Tokens:
        """Add prompts onto the first rows; where there are some, they replace what those hold. All tokens see them."""
        x, length = tokens.x, prompt.shape[-2]
        if x.shape[1] < length:
            ids = torch.full((len(x), length - x.shape[1]), PAD, device=x.device)
            x = torch.cat([x, self._rows(ids, x.shape[1])], dim=1)
        held = prompt.to(x.dtype).expand(len(x), *prompt.shape[-2:])
        if tokens.prompts == 0:
            held = x[:, :length] + held
        return replace(tokens, x=torch.cat([held, x[:, length:]], dim=1), prompts=length)

    def drop(self, tokens: Tokens) -> Tokens:
        """The rows stay as they are; prompts that are put next are added again."""
        return replace(tokens, prompts=0)

    def pool(self, tokens: Tokens) -> Tensor:
        """Refused: all rows are read.

        Raises:
            InterplayError: always.
        """
        raise no_vector("BERT")
