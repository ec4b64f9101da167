"""Several definition files, over the default objectives, as one list.

    found = load(["slo.toml", "slos.openslo.yaml"])
    found.slos, found.warnings

Files are read in the order given: what a later one says of an objective stands. OpenSLO's objects may refer to objects of
any of the files.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.documents.openslo_objects import Object, Objects
from retrospan.slo.documents.places import DefinitionError, Place, Problem, Problems, fatal, text_of
from retrospan.slo.documents.slo_toml import Off

# What a file says, given what was said before it; its objects are all known by then.
Said = Callable[[Mapping[str, SLO]], Iterable[SLO | Off]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The objectives, and what is not as it should be in the files."""

    slos: tuple[SLO, ...]
    warnings: tuple[Problem, ...] = ()


def load(files: Iterable[str | os.PathLike[str]]) -> Loaded:
    """The objectives of the files over the default ones. Raises DefinitionError with all that is wrong."""
    problems = Problems()
    slos = compiled(files, problems)
    problems.check()
    return Loaded(slos, tuple(problems.found))


def compiled(files: Iterable[str | os.PathLike[str]], problems: Problems) -> tuple[SLO, ...]:
    """The same as far as it can be had; what is wrong is told."""
    slos = dict(DEFAULTS)
    objects = Objects(problems)
    for said in [_read(Path(file), objects) for file in files]:
        for slo in said(dict(slos)):
            if isinstance(slo, Off):
                slos.pop(slo.name, None)
            else:
                slos[slo.name] = slo
    return tuple(slos.values())


def _read(file: Path, objects: Objects) -> Said:
    try:
        reader = _READERS.get(file.suffix.lower())
        if reader is None:
            raise fatal(Place(str(file)), f"is none of {', '.join(_READERS)}: its suffix says what a file is")
        return reader(str(file), text_of(file), objects)
    except DefinitionError as error:
        objects.problems.add(error)
        return lambda before: ()


def _toml(file: str, text: str, objects: Objects) -> Said:
    from retrospan.slo.documents import slo_toml
    from retrospan.slo.documents.toml_nodes import node

    document = node(file, text)
    return lambda before: slo_toml.read(document, before, objects.problems)


def _openslo(file: str, text: str, objects: Objects) -> Said:
    from retrospan.slo.documents.yaml_nodes import nodes

    found: list[Object] = []
    try:
        found.extend(one for one in map(objects.add, nodes(file, text)) if one is not None)
    except DefinitionError as error:  # what stands before it is still worth a look
        objects.problems.add(error)
    return lambda before: _compiled(found, objects)


def _compiled(found: Iterable[Object], objects: Objects) -> Iterable[SLO]:
    from retrospan.slo.documents.openslo import compile_slo
    from retrospan.slo.documents.openslo_sli import compile_sli

    slos: dict[str, SLO] = {}
    for one in found:
        objects.check(one)
        if one.kind == "SLI":
            compile_sli(objects, one.spec)
        for slo in compile_slo(objects, one) if one.kind == "SLO" else ():
            before = slos.setdefault(slo.name, slo)
            if before is not slo:
                said = f"comes to the name {slo.name}, as does what stands at line {before.line}"
                objects.problems.error(one.node, said)
    return slos.values()


_READERS: Final[dict[str, Callable[[str, str, Objects], Said]]] = {
    ".toml": _toml,
    ".yaml": _openslo,
    ".yml": _openslo,
}
