"""Identity of exposures: masks record the exposures they were made from, and are checked on use."""

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
    """Identity of an exposure.

    Attributes
    ----------
    name : str
        Name of the file.
    uuid, date_obs : str
        Values of UUID and DATE-OBS in the header; empty if the header has no such key.
    digest : str
        Hash (BLAKE2b, 128 bits) of the pixel values as read. It identifies exposures whose headers
        have neither UUID nor DATE-OBS, or all the same.
    """

    name: str
    uuid: str
    date_obs: str
    digest: str

    @classmethod
    def of(cls, name: str, header: Mapping[str, Any], image: np.ndarray) -> Identity:
        """Identify an exposure.

        Parameters
        ----------
        name : str
            Name of the file.
        header : mapping
            Its header.
        image : (rows, columns) array
            The image as read, with bias.
        """
        pixels = np.ascontiguousarray(image, dtype=">f4")
        digest = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
        uuid_, date_obs = (str(header.get(key) or "").strip() for key in ("UUID", "DATE-OBS"))
        return cls(name, uuid_, date_obs, digest)

    @property
    def identifier(self) -> str:
        """UUID of the exposure for headers of products; without one it is made from the hash."""
        return self.uuid or str(uuid.UUID(self.digest))

    def __str__(self):
        facts = {"UUID": self.uuid, "DATE-OBS": self.date_obs}
        known = ", ".join(f"{key} {value}" for key, value in facts.items() if value)
        return f"{self.name} ({known or 'image ' + self.digest[:8]})"


def difference(made_of: Sequence[Identity], given: Sequence[Identity]) -> str | None:
    """Describe how exposures differ from those that masks were made from.

    The exposures are compared by UUID if each of them has its own, else by DATE-OBS, else by the
    hash of the image.

    Parameters
    ----------
    made_of : sequence of Identity
        The exposures that the masks were made from, in order; empty if the masks do not record
        them, as those of numina-crmasks.
    given : sequence of Identity
        The exposures that the masks are to be applied to, in order.

    Returns
    -------
    str or None
        A sentence; None if the exposures are the same, or the masks do not record theirs.
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
    """Choose the attribute of which each exposure has a value of its own."""
    for attribute in ("uuid", "date_obs"):
        values = [[getattr(identity, attribute) for identity in group] for group in groups]
        if all(all(each) and len(set(each)) == len(each) for each in values):
            return attribute
    return "digest"


def with_identifiers(header: fits.Header, identities: Sequence[Identity]) -> fits.Header:
    """Return a copy of a header with the UUIDs of the exposures as UUID1, UUID2 and so on."""
    header = header.copy()
    for i, identity in enumerate(identities, start=1):
        header[f"UUID{i}"] = (identity.identifier, f"of exposure {i}")
    return header
