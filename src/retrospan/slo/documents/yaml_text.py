"""YAML as people would write it: texts plain where that is safe, several lines as a block, numbers as given.

print(dumped([{"threshold": Number("0.5"), "query": "SELECT 1\\nFROM t"}]))
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _./-]*[A-Za-z0-9]")


class Number(str):
    """A number as it is to be written."""


def dumped(documents: Iterable[Any]) -> str:
    """The documents. Long lines are not folded: a query is shown as it is."""
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Texts plain where no reader can take them for anything else, several lines as a block, numbers as given."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out."""
        return True


def _write_text(dumper: _Dumper, said: str) -> Any:
    # Unicode has ends of lines of its own, which a block would lose.
    block = "\n" in said and all(line.isprintable() for line in said.split("\n"))
    style = "|" if block else None if _PLAIN.fullmatch(said) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", said, style=style)


def _write_number(dumper: _Dumper, said: Number) -> Any:
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in said else 'int'}", str(said))


_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(Number, _write_number)
