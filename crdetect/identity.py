"""Which exposures masks were made of: told when they are written, checked when they are used."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits


@dataclass(frozen=True)
class Identity:
    """What tells an exposure from others.

    Attributes
    ----------
    name : str
        Name of the file.
    uuid, date_obs : str
        Keys UUID and DATE-OBS of the header; empty where it has none.
    digest : str
        Digest of the image as read, for headers that tell nothing.
    """

    name: str
    uuid: str
    date_obs: str
    digest: str

    @classmethod
    def of(cls, name: str, header: Mapping[str, Any], image: np.ndarray) -> Identity:
        """Identify an exposure by its header and its image, bias included."""
        pixels = np.ascontiguousarray(image, dtype=">f4")
        digest = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
        uuid_, date_obs = (str(header.get(key) or "").strip() for key in ("UUID", "DATE-OBS"))
        return cls(name, uuid_, date_obs, digest)

    @property
    def identifier(self) -> str:
        """UUID for a header: that of the exposure, else one made from its image."""
        return self.uuid or str(uuid.UUID(self.digest))

    def __str__(self):
        facts = {"UUID": self.uuid, "DATE-OBS": self.date_obs}
        told = ", ".join(f"{key} {value}" for key, value in facts.items() if value)
        return f"{self.name} ({told or 'image ' + self.digest[:8]})"


def difference(made_of: Sequence[Identity], given: Sequence[Identity]) -> str | None:
    """Tell how exposures differ from those that masks were made of; None, where they do not.

    They are compared by UUID where all have one of their own, else by DATE-OBS, else by their
    images. Masks that do not tell, as the peer's, are not compared.

    Parameters
    ----------
    made_of, given : sequences of Identity
        The exposures that the masks were made of, and those they are to be applied to, in order.
    """
    if not made_of:
        return None
    decisive = _decisive(made_of, given)
    before, now = ([getattr(identity, decisive) for identity in each] for each in (made_of, given))
    if before == now:
        return None
    if sorted(before) == sorted(now):
        return f"the exposures are in another order than the masks, made of {_listing(made_of)}"
    others = [identity for identity, key in zip(given, now, strict=True) if key not in before]
    return f"the masks were not made of {_listing(others or given)}, but of {_listing(made_of)}"


def _listing(identities: Sequence[Identity]) -> str:
    return ", ".join(map(str, identities))


def _decisive(*groups: Sequence[Identity]) -> str:
    """Name the attribute by which exposures are compared: all must have it, each its own."""
    for attribute in ("uuid", "date_obs"):
        values = [[getattr(identity, attribute) for identity in group] for group in groups]
        if all(all(each) and len(set(each)) == len(each) for each in values):
            return attribute
    return "digest"


def with_identifiers(header: fits.Header, identities: Sequence[Identity]) -> fits.Header:
    """Return a header with the UUID of each exposure, UUID1 and so on."""
    header = header.copy()
    for i, identity in enumerate(identities, start=1):
        header[f"UUID{i}"] = (identity.identifier, f"of exposure {i}")
    return header
