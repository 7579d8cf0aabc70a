"""Measures speed: ``python tools/benchmarks/benchmark.py SECTION``, one module ``bench_SECTION.py`` a section.

A section has ``SUMMARY``, ``add_arguments(parser)`` and ``measure(args)``, which returns rows with the same keys.
It may have ``targets(rows)``: rows of what was to be reached, and what was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch

SECTIONS = (
    "decoding",
    "features",
    "fine_tuning",
    "folder",
    "gpu",
    "page",
    "scores",
    "serve",
    "shards",
    "size",
    "start",
    "training",
    "write",
)

Row: TypeAlias = "Mapping[str, str | float]"


def main() -> None:
    """Measures one section and prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description="Measure speed.")
    sections = parser.add_subparsers(dest="section", required=True, metavar="SECTION")
    for name in SECTIONS:
        module = importlib.import_module(f"bench_{name}")
        section = sections.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        section.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N", help="CPU threads")
        section.add_argument("--json", action="store_true", help="print one JSON object")
        module.add_arguments(section)
        section.set_defaults(measure=module.measure, targets=getattr(module, "targets", None))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[Row] = args.measure(args)
    tables = {"rows": rows, **({"targets": args.targets(rows)} if args.targets else {})}
    settings = {name: value for name, value in vars(args).items() if name not in ("measure", "targets", "json")}
    machine = {
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
    }
    if args.json:
        print(json.dumps({**settings, **machine, **tables}))
    else:
        print(" ".join(f"{name}={value}" for name, value in {**settings, **machine}.items()))
        print("\n\n".join(map(table, tables.values())))


def table(rows: Sequence[Row]) -> str:
    """Rows under the names of their columns; numbers to three digits, on the right."""
    cells = [list(rows[0])] + [[v if isinstance(v, str) else f"{v:.3g}" for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [not isinstance(value, str) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )


if __name__ == "__main__":
    main()
