"""Mistakes in control files of numina: misspelt names, and values that no recipe uses.

numina silently ignores values that a control file or its command line gives under an unknown name.
The functions here find such values, so that they can be reported.

``ob`` is an observing block (``numina.core.oresult.ObservationResult``), ``dal`` is numina's data
access layer, which holds the requirements of the control file in its attribute ``req_table``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from crdetect.schema.words import is_misspelt

_logger = logging.getLogger("numina.recipes.crdetect")


def faults_of_control_file(ob: Any, dal: Any) -> list[str]:
    """Find misspelt instruments, pipelines and modes in the control file.

    Only names that resemble those of the observing block are reported.
    """
    instruments = getattr(dal, "req_table", {})
    drp = dal.drps.query_by_name(ob.instrument)
    pipelines = instruments.get(ob.instrument, {}).get(ob.profile, {})
    modes = pipelines.get(ob.pipeline, {})
    levels = [
        (instruments, ob.instrument, dal.drps.query_all()),
        (pipelines, ob.pipeline, drp.pipelines),
        (modes, ob.mode, drp.modes),
    ]
    return [
        f"the control file has values for {name}; did you mean {right}?"
        for names, right, valid in levels
        for name in names
        if name not in valid and is_misspelt(name, right)
    ]


def warn_of_other_profiles(ob: Any, dal: Any) -> None:
    """Log a warning if the control file has requirements for other instrument profiles only.

    The default requirements in the package's own ``configs.yaml`` are not counted.
    """
    profiles = getattr(dal, "req_table", {}).get(ob.instrument, {})
    packaged = dal.drps.query_by_name(ob.instrument).default_requirements()
    packaged = packaged.get("requirements", {}).get(ob.instrument, {})
    given = [name for name, content in profiles.items() if content != packaged.get(name)]
    if given and ob.profile not in given:
        _logger.warning(
            "the control file has requirements for profile %s, not for that of the frames, %s",
            ", ".join(given),
            ob.profile,
        )


def other_names(ob: Any, dal: Any, requirements: Collection[str]) -> dict[str, Any]:
    """Collect the values that were given under names of no requirement of the recipe.

    They come from the control file, from the observing block, or from the command line of numina.
    """
    table = getattr(dal, "req_table", {}).get(ob.instrument, {})
    modes = table.get(ob.profile, {}).get(ob.pipeline, {})
    values = {entry["name"]: entry["content"] for entry in modes.get(ob.mode, ())}
    values |= ob.requirements
    line = getattr(dal, "extra_data", {})
    if line.keys() - requirements:  # the command line is for all blocks, also those of other modes
        known = _known_to_other_modes(dal.drps.query_by_name(ob.instrument), ob.pipeline)
        values |= {name: value for name, value in line.items() if name not in known}
    return {name: value for name, value in values.items() if name not in requirements}


def _known_to_other_modes(drp: Any, pipeline: str) -> set[str]:
    recipes = (drp.get_recipe_object(mode, pipeline) for mode in drp.pipelines[pipeline].recipes)
    return {name for recipe in recipes for name in recipe.requirements()}
