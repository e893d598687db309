"""nuImages: single images with 2D boxes and masks."""

from bevkd.data.nuimages.convert import convert_nuimages
from bevkd.data.nuimages.objects import Objects, ObjectTable

__all__ = ["ObjectTable", "Objects", "convert_nuimages"]
