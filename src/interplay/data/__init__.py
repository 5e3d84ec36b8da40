"""Image-text data: one schema, safe images, readers for own data and for the embedded OpenMoji tasks."""

from interplay.data.image_cache import ImageCache
from interplay.data.readers import load
from interplay.data.schema import BadRow, PairTable, Split
from interplay.data.show import contact_sheet, summary

__all__ = ["BadRow", "ImageCache", "PairTable", "Split", "contact_sheet", "load", "summary"]
