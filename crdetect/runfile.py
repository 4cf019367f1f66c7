"""The params file of the command: exposures, gain, read noise, bias and requirements, as YAML."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crdetect.errors import InputError
from crdetect.exposures import MAPS, find_files
from crdetect.parameters import ALIASES, BLOCKS, Inputs, Parameters, spellings
from crdetect.schema.block import is_none
from crdetect.schema.words import fault_of, unknown_parameter, validate_block, yaml_value


@dataclass(frozen=True)
class RunFile:
    """The validated content of a params file.

    Attributes
    ----------
    inputs : Inputs
        Exposures, gain, read noise and bias.
    parameters : Parameters
        The requirements; parameters that the file does not name have their defaults.
    folder : Path
        Folder of the file, to which relative paths refer.
    given : frozenset of str
        Names of the requirements that the file or the command line sets.
    """

    inputs: Inputs
    parameters: Parameters
    folder: Path
    given: frozenset[str] = frozenset()

    def located(self) -> Inputs:
        """Return the inputs with the absolute path of every file.

        Raises
        ------
        InputError
            If files are missing; the message names all of them.
        """
        values = {name: getattr(self.inputs, name) for name in MAPS}
        maps = {name: value for name, value in values.items() if isinstance(value, str)}
        named = [*(("images", name) for name in self.inputs.images), *maps.items()]
        paths = [str(path.absolute()) for path in find_files(named, self.folder)]
        n = len(self.inputs.images)
        update: dict[str, Any] = {"images": tuple(paths[:n])}
        update |= zip(maps, paths[n:], strict=True)
        return self.inputs.model_copy(update=update)


def read_params(path: Path, overrides: Iterable[str] = ()) -> RunFile:
    """Read and validate a params file.

    Parameters
    ----------
    path : Path
        YAML file: ``images, extnum, gain, rnoise, bias, requirements``.
    overrides : iterable of str
        Texts ``key=value`` from the option ``--set``, which replace the values of the file.

    Raises
    ------
    InputError
        If the file is missing or is not YAML of this kind, or if values are not accepted; the
        message names all the faults, and says which ones come from ``--set``.
    """
    content = _read_yaml(path)
    requirements = content.pop("requirements", None)
    requirements = {} if is_none(requirements) else requirements
    if not isinstance(requirements, dict):
        raise InputError(f"{path.name}: requirements must be a list of 'name: value' lines")
    faults_of_set = []
    for override in overrides:
        name, value = _parse_override(override)
        if fault := _fault_of_override(name, value):
            faults_of_set.append(f"--set {override}: {fault}")
            continue
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
    faults_of_file = [f"{path.name}: " + "; ".join(faults + more)] if faults or more else []
    if faults_of_set or faults_of_file:
        raise InputError("; ".join(faults_of_set + faults_of_file))
    return RunFile(inputs, parameters, path.parent, frozenset(requirements))


def _fault_of_override(name: str, value: Any) -> str | None:
    """Say what is wrong with a name or a value given by ``--set``; None if it is accepted."""
    name = ALIASES.get(name, name)
    models = (Inputs, *BLOCKS.values())
    for model in models:
        if name in model.model_fields:
            return fault_of(model, name, value)
    return unknown_parameter(name, [name for model in models for name in model.model_fields])


def files_of(inputs: Inputs) -> list[Path]:
    """List the files that the inputs name: exposures and maps."""
    maps = [getattr(inputs, name) for name in MAPS]
    return [Path(name) for name in (*inputs.images, *maps) if isinstance(name, str)]


def inputs_text(inputs: Inputs) -> str:
    """Write the inputs as lines of a params file."""
    values = inputs.model_dump(mode="json")
    return "".join(f"{name}: {yaml_value(value)}\n" for name, value in values.items())


def requirements_text(parameters: Parameters) -> str:
    """Write the parameters of the active blocks as requirements of a params file."""
    lines = [
        f"  {name}: {yaml_value(value)}"
        for block in parameters.active_blocks()
        for name, value in block.model_dump(mode="json").items()
    ]
    return "\n".join(["requirements:", *lines]) + "\n"


class _StrictLoader(yaml.SafeLoader):
    """Loader of plain YAML that refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # keys that << merges may be given again, which overrides them
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # SafeLoader raises an error that explains it
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.MarkedYAMLError(problem=f"{key} is given twice (again in line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = _StrictLoader(path.read_text(encoding="utf-8")).get_single_data()
    except IsADirectoryError as error:
        inside = path / "params.yaml"
        hint = f"; did you mean {inside}?" if inside.is_file() else ""
        raise InputError(f"{path} is a folder, a params file (YAML) is needed{hint}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text (UTF-8)") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise InputError(f"{path.name} is not valid YAML{where}: {problem}") from error
    if content is None:
        raise InputError(
            f"{path.name} is empty; 'crdetect template' prints a params file to start from"
        )
    if not isinstance(content, dict):
        raise InputError(
            f"{path.name} holds a {type(content).__name__}, not 'name: value' lines; "
            "'crdetect template' prints a params file to start from"
        )
    return content


def _parse_override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"--set {text}: it must be key=value")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not valid YAML") from error
