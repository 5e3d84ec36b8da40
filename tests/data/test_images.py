from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from interplay.data.images import MAX_PIXELS, decode, fault
from interplay.errors import InterplayError
from interplay.towers.preprocessing import to_square


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> tuple[int, int, int]:
    return tuple(int(value) for value in np.asarray(image)[at[1], at[0]])  # type: ignore[return-value]


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize(
    "shape", [(32, 32), (33, 57), (57, 33), (20, 14), (101, 64), (64, 101), (333, 500), (7, 200), (1, 40)]
)
def test_to_square_is_what_transformers_makes(shape: tuple[int, int], size: int) -> None:
    image = picture(1, shape)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        do_rescale=False,
        do_normalize=False,
    )
    expected = np.asarray(processor(image)["pixel_values"][0])
    ours = to_square(image, size)
    assert ours.dtype == np.uint8
    assert ours.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(ours, expected)


def test_a_hair_thin_picture_does_not_grow_without_bound() -> None:
    assert to_square(Image.new("RGB", (1, 1_000_000), "red"), 224).shape == (3, 224, 224)
    assert to_square(Image.new("RGB", (1_000_000, 1), "red"), 8)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["bytes", "path", "str", "image", "dict", "dict path"])
def test_every_kind_of_source(kind: str, tmp_path: Path) -> None:
    data = encoded(picture(3))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    source = {
        "bytes": data,
        "path": path,
        "str": str(path),
        "image": picture(3),
        "dict": {"bytes": data, "path": "elsewhere.png"},
        "dict path": {"bytes": None, "path": str(path)},
    }[kind]
    image = decode(source, "here")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(picture(3)))


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    upright = decode(encoded(picture(0, (20, 14)), exif=exif), "here")
    assert upright.size == (14, 20)


def test_transparency_lies_on_white() -> None:
    assert pixel(decode(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), "here")) == (255, 255, 255)
    half = pixel(decode(encoded(Image.new("LA", (4, 4), (0, 128))), "here"))
    assert half == (127, 127, 127)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 1), 1)
    image = decode(encoded(palette, transparency=0), "here")
    assert pixel(image) == (255, 255, 255)
    assert pixel(image, (1, 1)) == (200, 100, 50)


def test_cmyk_grey_and_one_bit() -> None:
    red, green, blue = pixel(decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), "here"))
    assert red > 230
    assert green < 30
    assert blue < 30
    assert pixel(decode(encoded(Image.new("1", (4, 4), 1)), "here")) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(ramp)), "here")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(decode(gif, "here")) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused_by_name(kind: str) -> None:
    data = encoded(picture(0, (64, 48)), kind)
    for cut in range(0, len(data) - len(data) // 10, max(1, len(data) // 12)):
        with pytest.raises(InterplayError, match=r"shelf\.csv, row 7"):
            decode(data[:cut], "shelf.csv, row 7")


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + b"x" * 50])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(InterplayError, match="row 7"):
        decode(data, "row 7")


def test_a_missing_file_or_no_source_at_all(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match=r"row 7: the image file .*gone\.png"):
        decode(tmp_path / "gone.png", "row 7")
    with pytest.raises(InterplayError, match="row 7: the image is missing"):
        decode({"bytes": None, "path": None}, "row 7")


def test_bombs_are_refused_before_decoding() -> None:
    assert "20 x 14 pixels, more than 100" in (fault(encoded(picture()), max_pixels=100) or "")
    assert fault(picture(), max_pixels=20 * 14) is None
    for side in (10_000, 20_000):  # beyond Pillow's warning, beyond its error
        with pytest.raises(InterplayError, match=f"row 7: the image has more than {MAX_PIXELS:,} pixels"):
            decode(_claims(side), "row 7")


def _claims(side: int) -> bytes:
    """A BMP header that promises a picture of that size, and no pixels."""
    data = bytearray(encoded(Image.new("RGB", (1, 1)), "BMP"))
    data[18:26] = side.to_bytes(4, "little") * 2
    return bytes(data)


def test_float_pixels_are_refused_with_advice() -> None:
    tiff = encoded(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF")
    with pytest.raises(InterplayError, match="8 or 16 bits"):
        decode(tiff, "row 7")
