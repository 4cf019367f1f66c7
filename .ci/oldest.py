"""Print the oldest versions that pyproject.toml claims to work with, as constraints for pip."""

import re
import sys
import tomllib
from pathlib import Path

_CLAIM = re.compile(r"^([\w.-]+)(?:\[.*\])?>=([\w.]+)")


def oldest(*extras: str) -> list[str]:
    """Turn each lower bound into the version itself, of the package and of these extras."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    needed = list(project["project"]["dependencies"])
    for extra in extras:
        needed += project["project"]["optional-dependencies"][extra]
    claims = map(_CLAIM.match, needed)
    return [f"{claim[1]}=={claim[2]}" for claim in claims if claim]


if __name__ == "__main__":
    sys.stdout.write("\n".join(oldest(*sys.argv[1:])) + "\n")
