# `just` lists these tasks.
_default:
    @just --list

# the quick tests, in two processes
test *arguments:
    pytest -n 2 --dist loadfile {{arguments}}

# the slow tests: training on drawn shapes, the guide, the pages' commands
slow *arguments:
    pytest -n 2 --dist loadfile -m slow {{arguments}}

# lint, format, spelling, types
lint:
    ruff check .
    ruff format --check .
    codespell
    mypy

# the pages that tools write, and the site in site/
docs:
    python tools/docs/write_cli_reference.py
    python tools/docs/write_model_card.py
    PYTHONPATH=tools/docs zensical build --strict --clean

# how fast: start, folder, decoding, training, scores and more (just bench --help)
bench *arguments:
    python tools/benchmarks/benchmark.py {{arguments}}
