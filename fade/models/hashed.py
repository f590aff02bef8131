"""The hashes by which records name a base."""

from __future__ import annotations

from functools import cached_property

from fade.errors import BaseModelError
from fade.models.layout import BASE, legacy_sha256, resolve


class HashedModel:
    """A model that records name by its hash."""

    path: str
    """What it was loaded from: a directory, a hub id, or a file with its configurations."""
    sha256: str
    """Of what is loaded, see `fade.models.identity`."""

    @cached_property
    def legacy_sha256(self) -> str:
        """The hash by which earlier versions name this base; "" for one that they refused or that is gone."""
        try:
            return legacy_sha256(resolve(self.path), BASE)
        except BaseModelError:
            return ""

    def is_base(self, sha256: str) -> bool:
        """Whether a record's hash names this base: by what is loaded, or as earlier versions hashed it."""
        return sha256 == self.sha256 or sha256 == self.legacy_sha256
