"""Write the reference pages that are derived from the code: `python docs/generate.py`. A test holds them equal to it."""

from pathlib import Path

from retrospan.prometheus import names
from retrospan_exporters.tables import PRUNED_ROWS, RECORD_IDENTITY, TABLES
from retrospan_instrumentation import semconv

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; change the declaration, not this page. -->\n"


def tables() -> str:
    """docs/tables.md, from `tables.TABLES`."""
    lines = [NOTE, "# The tables of a record\n", "SQLite, one file; `retrospan ddl sqlite` prints the schema.\n"]
    for table in (*TABLES, RECORD_IDENTITY, PRUNED_ROWS):
        lines += [f"## {table.name}\n", f"{table.meaning}\n", "| column | type | meaning | from |", "|---|---|---|---|"]
        for column in table.columns:
            sources = ", ".join(f"`{name}`" for name in column.source if not name.startswith("@"))
            if column.false_if is not None:
                sources += f"; 0 where `{column.false_if}` is true and that is missing"
            lines.append(f"| `{column.name}` | {column.kind} | {_cell(column.meaning)} | {sources} |")
        lines.append("")
    return "\n".join(lines)


def vocabulary() -> str:
    """docs/vocabulary.md, from `semconv.ATTRIBUTES` and `semconv.METRICS`."""
    lines = [NOTE, "# The attributes\n", "Stable OpenTelemetry names where there are any, and what they lack.\n"]
    lines += ["| attribute | type | unit | meaning |", "|---|---|---|---|"]
    for attribute in semconv.ATTRIBUTES.values():
        meaning = _cell(attribute.meaning)
        lines.append(f"| `{attribute.name}` | {attribute.type.__name__} | {attribute.unit} | {meaning} |")
    lines += ["", "# The live metrics\n", "Made only while a reader listens; durations have their edges at"]
    lines += [f"{', '.join(f'{edge:g}' for edge in semconv.DURATION_BUCKETS)} s, unless a view says otherwise.\n"]
    lines += ["| metric | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    for metric in semconv.METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {_cell(metric.meaning)} |")
    return "\n".join([*lines, ""])


def metrics() -> str:
    """docs/metrics.md, from `names.METRICS`."""
    lines = [
        NOTE,
        "# The metrics of a record\n",
        "What `retrospan metrics` serves; see [prometheus.md](prometheus.md).\n",
    ]
    lines += ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for name, metric in names.METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{name}` | {metric.kind} | {labels} | {_cell(metric.meaning)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"tables.md": tables, "vocabulary.md": vocabulary, "metrics.md": metrics}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
