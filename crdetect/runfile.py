"""The params file: YAML with the exposures, gain, read noise, bias, and the requirements."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crdetect.errors import InputError
from crdetect.exposures import MAPS, find_file
from crdetect.parameters import BLOCKS, Inputs, Parameters, spellings
from crdetect.schema.block import is_none
from crdetect.schema.words import validate_block, yaml_value


@dataclass(frozen=True)
class RunFile:
    """A params file, validated.

    Attributes
    ----------
    inputs : Inputs
        What to read.
    parameters : Parameters
        What to do with it.
    folder : Path
        Where relative paths start from.
    given : frozenset of str
        Names of the requirements that the file or an override sets.
    """

    inputs: Inputs
    parameters: Parameters
    folder: Path
    given: frozenset[str] = frozenset()

    def located(self) -> Inputs:
        """Return what to read, with the whole path of every file.

        Raises
        ------
        InputError
            If a file is missing.
        """
        images = tuple(
            str(find_file(name, self.folder, "images").absolute()) for name in self.inputs.images
        )
        maps = {
            name: str(find_file(value, self.folder, name).absolute())
            for name in MAPS
            if isinstance(value := getattr(self.inputs, name), str)
        }
        return self.inputs.model_copy(update={"images": images} | maps)


def read_params(path: Path, overrides: Iterable[str] = ()) -> RunFile:
    """Read and validate a params file.

    Parameters
    ----------
    path : Path
        YAML file: ``images, extnum, gain, rnoise, bias, requirements``.
    overrides : iterable of str
        Texts ``key=value`` that take the place of what the file says.

    Raises
    ------
    InputError
        If the file is missing, not such a YAML, or with all its faults at once.
    """
    content = _read_yaml(path)
    requirements = content.pop("requirements", None)
    requirements = {} if is_none(requirements) else requirements
    if not isinstance(requirements, dict):
        raise InputError(f"{path.name}: requirements must be a list of 'name: value' lines")
    for override in overrides:
        name, value = _parse_override(override)
        target = content if name in Inputs.model_fields else requirements
        for spelling in spellings(name):
            target.pop(spelling, None)
        target[name] = value
    misplaced = [name for name in content if any(name in b.model_fields for b in BLOCKS.values())]
    inputs, faults = validate_block(
        Inputs, {name: value for name, value in content.items() if name not in misplaced}
    )
    faults += [f"{name} belongs under requirements" for name in misplaced]
    parameters, more = Parameters.parse(requirements)
    if faults or more:
        raise InputError(f"{path.name}: " + "; ".join(faults + more))
    return RunFile(inputs, parameters, path.parent, frozenset(requirements))


def files_of(inputs: Inputs) -> list[Path]:
    """List all the files of an input: exposures and maps."""
    maps = [getattr(inputs, name) for name in MAPS]
    return [Path(name) for name in (*inputs.images, *maps) if isinstance(name, str)]


def inputs_text(inputs: Inputs) -> str:
    """Write the lines of a params file that say what to read."""
    values = inputs.model_dump(mode="json")
    return "".join(f"{name}: {yaml_value(value)}\n" for name, value in values.items())


def requirements_text(parameters: Parameters) -> str:
    """Write the requirements of a params file or of an observing block."""
    lines = [
        f"  {name}: {yaml_value(value)}"
        for block in parameters.active_blocks()
        for name, value in block.model_dump(mode="json").items()
    ]
    return "\n".join(["requirements:", *lines]) + "\n"


class _StrictLoader(yaml.SafeLoader):
    """Loads plain YAML, and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # <<: what is merged may stand here too, and be overridden
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # SafeLoader says what is wrong with it
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.MarkedYAMLError(problem=f"{key} stands twice (again in line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = _StrictLoader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text (UTF-8)") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise InputError(f"{path.name} is not valid YAML{where}: {problem}") from error
    if content is None:
        raise InputError(f"{path.name} is empty; 'crdetect template' writes one to start from")
    if not isinstance(content, dict):
        raise InputError(
            f"{path.name} holds a {type(content).__name__}, not 'name: value' lines; "
            "'crdetect template' writes one to start from"
        )
    return content


def _parse_override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"--set {text}: must be key=value")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not valid YAML") from error
