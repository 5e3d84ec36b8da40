"""Train a bundled backbone for a number of steps, with checkpoints that resume."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from augment import augment, plain
from data import PictureSet
from geometry import GEOMETRIES, TOWERS, build_config, warm_start
from safetensors.torch import load_file
from scenes import SceneSet
from sources import DEFAULT_CACHE
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

MAX_LOGIT_SCALE = math.log(100)
CHECKPOINT_SECONDS = 150
VALIDATION_SECONDS = 300
LOG_STEPS = 25
CHUNK = 128
ALL_PATCHES_FROM = 0.85
"""Share of the steps after which no patch is left out any more."""


def encode_text(tokenizer: CLIPTokenizer, captions: list[str], max_tokens: int) -> Tensor:
    """Token ids padded to the longest caption; padding comes after the pooled token of a causal tower."""
    return tokenizer(
        captions, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    ).input_ids


def embed_images(model: CLIPModel, images: Tensor, keep: int = 0) -> Tensor:
    """Unit-length picture embeddings; of `keep` patches a picture where it is not 0, the blank ones left out first."""
    tower = model.vision_model
    if not keep:
        return F.normalize(model.visual_projection(tower(pixel_values=images).pooler_output), dim=-1)
    hidden = tower.embeddings(images)
    side = tower.embeddings.patch_size
    patches = F.unfold(images, side, stride=side)
    order = (patches.std(1) + 1e-3 * torch.rand(patches.shape[0], patches.shape[2])).topk(keep).indices
    rows = torch.cat([torch.zeros(len(order), 1, dtype=order.dtype), order + 1], dim=1)
    hidden = hidden.gather(1, rows.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(hidden)).last_hidden_state
    return F.normalize(model.visual_projection(tower.post_layernorm(hidden[:, 0])), dim=-1)


def embed_texts(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit-length text embeddings."""
    return F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output), dim=-1)


@dataclass
class Inputs:
    """What one step feeds to the towers, and which of its pairs match."""

    images: Tensor
    ids: Tensor
    same: Tensor


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """Symmetric InfoNCE where all pairs marked in `same` share the target probability."""
    target = same / same.sum(dim=1, keepdim=True)
    logits = scale.exp() * images @ texts.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def positives(concepts: np.ndarray, captions: list[str]) -> Tensor:
    """Which pairs of a batch match: the same concept, or the very same caption."""
    names = np.unique(captions, return_inverse=True)[1]
    same = (concepts[:, None] == concepts[None]) | (names[:, None] == names[None])
    return torch.from_numpy(same).float()


def recalls(scores: Tensor) -> dict[str, float]:
    """Recall@1/5/10 of the diagonal for rows (i2t) and columns (t2i); ties count against."""
    result = {}
    for name, table in (("i2t", scores), ("t2i", scores.T)):
        ranks = (table >= table.diagonal().unsqueeze(1)).sum(dim=1)
        for k in (1, 5, 10):
            result[f"{name}_r{k}"] = round((ranks <= k).float().mean().item(), 4)
    return result


@torch.no_grad()
def validate(
    model: CLIPModel, tokenizer: CLIPTokenizer, pictures: Tensor, labels: list[str]
) -> dict[str, float]:
    """Retrieval among the concepts of the held-out style."""
    model.eval()
    images = embed_images(model, plain(pictures, model.config.vision_config.image_size))
    texts = embed_texts(model, encode_text(tokenizer, labels, 64))
    model.train()
    return recalls(images @ texts.T)


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-8, foreach=True)


def learning_rate(peak: float, progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero, over a progress from 0 to 1."""
    if progress < warmup:
        return peak * max(progress / warmup, 0.01)
    done = min((progress - warmup) / (1 - warmup), 1.0)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """The state of a run: the model, its moving average, the optimiser, the steps and seconds so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Set everything up, and continue from the checkpoint in the run's folder if there is one."""
        self.args = args
        self.folder = args.cache / "runs" / (args.name or args.model)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.geometry = GEOMETRIES[args.model]
        start = TOWERS / self.geometry.start if self.geometry.start else None
        self.tokenizer = CLIPTokenizer.from_pretrained(start or args.cache / "tokenizer")
        self.data = SceneSet(args.cache) if start else PictureSet(args.cache)
        self.held_out = self.data.validation()
        torch.manual_seed(args.seed)
        config = build_config(self.tokenizer, self.geometry)
        self.model = CLIPModel(config)
        if start:
            warm_start(self.model, load_file(start / "model.safetensors"))
        self.average = CLIPModel(config).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = make_optimizer(self.model, args.weight_decay)
        self.step, self.seconds = 0, 0.0
        if self.checkpoint.exists():
            self._resume()
        self.workers = ThreadPoolExecutor(args.workers, initializer=torch.set_num_threads, initargs=(1,))
        self.upcoming: Future[Inputs] = self.workers.submit(self.prepare, self.step)

    @property
    def checkpoint(self) -> Path:
        """The file that holds the state of the run."""
        return self.folder / "checkpoint.pt"

    def _resume(self) -> None:
        """Load the state of an earlier call."""
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write the state so that an interruption never leaves half a file."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def log(self, record: dict[str, object]) -> None:
        """Append one JSON line to the run's log and show it."""
        line = json.dumps({"step": self.step, "seconds": round(self.seconds, 1), **record})
        with (self.folder / "log.jsonl").open("a") as out:
            out.write(line + "\n")
        print(line, flush=True)

    def validate(self) -> None:
        """Log the retrieval of the weights and of their moving average."""
        for name, model in (("model", self.model), ("average", self.average)):
            self.log({"validation": name, **validate(model, self.tokenizer, *self.held_out)})

    def prepare(self, step: int) -> Inputs:
        """Draw and augment the batch of a step; it depends on the seed and the step only."""
        rng = np.random.default_rng((self.args.seed, step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        if isinstance(self.data, SceneSet):
            images, batch = self.data.scene_batch(self.args.batch_size, rng, generator)
        else:
            batch = self.data.batch(self.args.batch_size, rng)
            images = augment(batch.pictures, self.geometry.image_size, generator)
        ids = encode_text(self.tokenizer, batch.captions, batch.max_tokens)
        return Inputs(images, ids, positives(batch.concepts, batch.captions))

    def train_step(self) -> float:
        """One optimiser step; chunks of both towers are spread over two single-threaded workers."""
        inputs, workers = self.upcoming.result(), self.workers
        keep = self.geometry.keep if self.step < ALL_PATCHES_FROM * self.args.steps else 0
        images = [workers.submit(embed_images, self.model, part, keep) for part in inputs.images.split(CHUNK)]
        texts = [workers.submit(embed_texts, self.model, part) for part in inputs.ids.split(CHUNK)]
        outputs = [[part.result() for part in parts] for parts in (images, texts)]
        leaves = [torch.cat(parts).detach().requires_grad_() for parts in outputs]
        loss = contrastive_loss(*leaves, self.model.logit_scale, inputs.same)
        loss.backward()
        passes = [
            workers.submit(part.backward, gradient)
            for parts, leaf in zip(outputs, leaves, strict=True)
            for part, gradient in zip(parts, leaf.grad.split(CHUNK), strict=True)
        ]
        self.upcoming = workers.submit(self.prepare, self.step + 1)
        for done in passes:
            done.result()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = learning_rate(self.args.lr, self.step / self.args.steps, self.args.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._after_step()
        return loss.item()

    @torch.no_grad()
    def _after_step(self) -> None:
        """Clamp the temperature and move the average."""
        self.model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        decay = min(self.args.average_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def run(self) -> None:
        """Train until all steps are done."""
        saved = validated = self.seconds
        losses: list[float] = []
        self.model.train()
        before = time.monotonic()
        while self.step < self.args.steps:
            losses.append(self.train_step())
            if self.step % LOG_STEPS == 0:
                rate = self.optimizer.param_groups[0]["lr"]
                scale = self.model.logit_scale.exp().item()
                self.log(
                    {"loss": round(float(np.mean(losses)), 4), "lr": round(rate, 7), "scale": round(scale, 2)}
                )
                losses.clear()
            if self.seconds - validated > VALIDATION_SECONDS:
                self.validate()
                validated = self.seconds
            if self.seconds - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = self.seconds
            now = time.monotonic()
            self.seconds += now - before
            before = now
        self.validate()
        self.save()
        self.workers.shutdown()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--model", choices=GEOMETRIES, default="tiny")
    parser.add_argument("--name", help="name of the run: its folder below CACHE/runs; the model's by default")
    parser.add_argument("--steps", type=int, default=3400, help="counted over resumed calls")
    parser.add_argument("--workers", type=int, default=2, help="threads, one a core")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--warmup", type=float, default=0.04, help="share of the steps")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--average-decay", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    Trainer(args).run()


if __name__ == "__main__":
    main()
