"""Places that sessions are read from and written to, by URL or by path."""

from legacy.stores.archive import Archive
from legacy.stores.legacy_files import LegacyFiles
from legacy.stores.opening import open_source
from legacy.stores.ours import OurStorage
from legacy.stores.parcels import Item, Parcel, Source
from legacy.stores.places import Place, StoreFormat, known_formats, place_of

__all__ = [
    "Archive",
    "Item",
    "LegacyFiles",
    "OurStorage",
    "Parcel",
    "Place",
    "Source",
    "StoreFormat",
    "known_formats",
    "open_source",
    "place_of",
]
