"""Render every picture once and train the tokenizer: writes `pictures.npy`, `index.json` and `tokenizer/`."""

from __future__ import annotations

import argparse
import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import resvg_py
from captions import (
    Entry,
    clean_words,
    clipart_entry,
    compact,
    flag_code,
    has_skin_tone,
    load_emoji,
    name_index,
    normalise_hexcode,
)
from PIL import Image
from sources import DEFAULT_CACHE, RENDER_SIZE, SOURCES
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MAX_SVG_BYTES = 400_000
MAX_PER_FOLDER = 150
MAX_SAME_TITLE = 5
VOCABULARY = 3500
CLIPART_FOLDER = "openclipart-svg/usr/share/openclipart/svg"
FLAG_SOURCES = {"circle-flags", "flag", "flagpack"}


@dataclass
class Picture:
    """One SVG to render (its text, or its file) with what it shows and where it comes from."""

    source: str
    entry: Entry
    svg: str = ""
    path: str = ""


def _icon_key(source: str, name: str) -> str | None:
    """The readable part of an icon's name, or None for a variant that is left out."""
    if source in FLAG_SOURCES:
        return re.sub(r"-4x3$", "", name) if source != "flag" or name.endswith("-4x3") else None
    if source == "meteocons":
        return name.removesuffix("-fill") if name.endswith("-fill") else None
    return re.sub(r"-\d$", "", name) if source == "streamline-emojis" else name


def _icon_entry(
    source: str, name: str, code: str, emoji: dict[str, Entry], names: dict[str, str], is_emoji: bool
) -> Entry | None:
    """What an icon shows: an emoji found by code point or name, else the words of its own name."""
    if code in emoji:
        return emoji[code]
    key = _icon_key(source, name)
    if key is None:
        return None
    if source in FLAG_SOURCES:
        return emoji.get(flag_code(key)) if re.fullmatch("[a-z]{2}", key) else None
    words = key.replace("-", " ")
    if (known := names.get(compact(key))) is not None:
        return emoji[known] if is_emoji else Entry(f"emoji:{known}", words)
    if source == "fxemoji" or (re.search(r"skin tone|\b(medium|dark|light)\b", words) and is_emoji):
        return None
    return Entry(f"text:{compact(key)}", words) if re.search(r"[a-z]{2}", words) else None


def load_icons(
    folder: Path, source: str, is_emoji: bool, emoji: dict[str, Entry], names: dict[str, str]
) -> list[Picture]:
    """Every usable icon of one Iconify package, without skin-tone variants."""
    data = json.loads((folder / "icons.json").read_text("utf-8"))
    chars = json.loads((folder / "chars.json").read_text("utf-8"))
    codes = {name: normalise_hexcode(code) for code, name in chars.items()}
    pictures = []
    for name, icon in data["icons"].items():
        code = codes.get(name, "")
        if has_skin_tone(code) or icon.get("hidden"):
            continue
        entry = _icon_entry(source, name, code, emoji, names, is_emoji)
        if entry is None:
            continue
        left, top = icon.get("left", data.get("left", 0)), icon.get("top", data.get("top", 0))
        width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
        body = icon["body"].replace("currentColor", "#1a1a1a")
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        svg = f'{head} viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
        pictures.append(Picture(source, entry, svg=svg))
    return pictures


def load_clipart(root: Path, names: dict[str, str]) -> list[Picture]:
    """Every Open Clip Art file with a usable title or keywords.

    A title that many files share gives way to the file name; one that names an emoji joins its concept.
    """
    paths = [path for path in sorted(root.rglob("*.svg")) if path.stat().st_size <= MAX_SVG_BYTES]
    entries = [clipart_entry(path, root) for path in paths]
    repeats = Counter(entry.label for entry in entries if entry is not None)
    per_folder: Counter[Path] = Counter()
    pictures = []
    for path, entry in zip(paths, entries, strict=True):
        if entry is None or per_folder[path.parent] >= MAX_PER_FOLDER:
            continue
        if repeats[entry.label] > MAX_SAME_TITLE and (stem := clean_words(path.stem)):
            entry = Entry(f"text:{compact(stem)}", stem, [], entry.tags)
        per_folder[path.parent] += 1
        if (known := names.get(compact(entry.label))) is not None:
            entry.concept = f"emoji:{known}"
        pictures.append(Picture("openclipart", entry, path=str(path)))
    return pictures


def render(picture: Picture) -> np.ndarray | None:
    """The picture as a square RGBA array, centred, or None when it cannot be rendered or is empty."""
    text = picture.svg or Path(picture.path).read_text("utf-8", errors="replace")
    try:
        size = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', picture.svg)
        wide = size is None or float(size[1]) >= float(size[2])
        side = {"width": RENDER_SIZE} if wide else {"height": RENDER_SIZE}
        png = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True, dpi=96, **side)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    except Exception:  # resvg_py raises several unrelated types, and one bad file must not end the run
        return None
    if max(image.size) > 8 * min(image.size):
        return None
    image.thumbnail((RENDER_SIZE, RENDER_SIZE), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (RENDER_SIZE, RENDER_SIZE), (0, 0, 0, 0))
    canvas.paste(image, ((RENDER_SIZE - image.width) // 2, (RENDER_SIZE - image.height) // 2))
    pixels = np.asarray(canvas)
    return pixels if (pixels[..., 3] > 32).mean() > 0.01 else None


def render_all(pictures: list[Picture], target: Path, processes: int) -> list[Picture]:
    """Render into one memory-mapped array and return the pictures that made it, in its order."""
    raw = target.with_suffix(".raw")
    kept = []
    with Pool(processes) as pool, raw.open("wb") as out:
        for picture, pixels in zip(pictures, pool.imap(render, pictures, chunksize=32), strict=True):
            if pixels is not None:
                out.write(pixels.tobytes())
                kept.append(picture)
    shape = (len(kept), RENDER_SIZE, RENDER_SIZE, 4)
    np.save(target, np.memmap(raw, dtype=np.uint8, mode="r", shape=shape))
    raw.unlink()
    return kept


def train_tokenizer(texts: list[str], folder: Path) -> None:
    """Learn a small CLIP-style BPE and save it as a `CLIPTokenizer`."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True)
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 258, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = alphabet + [f"{byte}</w>" for byte in alphabet] + ["".join(pair) for pair in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=64).save_pretrained(folder)


def main() -> None:
    """Collect, render, index and tokenise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of downloads and results")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()

    modules = args.cache / "npm" / "node_modules"
    emoji = load_emoji(modules / "emojibase-data")
    names = name_index(emoji)
    pictures: list[Picture] = []
    for source in SOURCES:
        if source.name == "openclipart":
            pictures += load_clipart(args.cache / "deb" / CLIPART_FOLDER, names)
        else:
            folder = modules / "@iconify-json" / source.name
            pictures += load_icons(folder, source.name, source.group == "emoji", emoji, names)
    print("found", dict(Counter(picture.source for picture in pictures)), flush=True)

    entries = [picture.entry for picture in pictures]
    texts = [text for entry in entries for text in (entry.label, *entry.alternatives, *entry.tags)]
    train_tokenizer(texts, args.cache / "tokenizer")

    kept = render_all(pictures, args.cache / "pictures.npy", args.processes)
    index = [{"source": picture.source, **picture.entry.to_dict()} for picture in kept]
    (args.cache / "index.json").write_text(json.dumps(index, ensure_ascii=False), "utf-8")
    print("rendered", dict(Counter(picture.source for picture in kept)), flush=True)


if __name__ == "__main__":
    main()
