"""Public data sets by name: where they come from, fetching them, reading what was fetched."""

from contrarec.data.catalog.entries import ENTRIES, Entry, cache_folder, find, folder
from contrarec.data.catalog.fetching import fetch

__all__ = ["ENTRIES", "Entry", "cache_folder", "fetch", "find", "folder"]
