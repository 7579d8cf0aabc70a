"""The benchmarks run, at sizes too small to measure anything, and both beam searches agree."""

from __future__ import annotations

import json

import benchmark
import pytest

SMALL = "--images 2 --cells 5 --channels 6 --size 8 --vocabulary 40 --beam-size 3 --max-words 6 --repeats 1 --threads 1"


def test_decoding_is_measured_beside_the_textbook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr("sys.argv", ["benchmark.py", "decoding", *SMALL.split(), "--json"])
    benchmark.main()
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["images"] == 2
    ways = [row["way"] for row in outcome["rows"]]
    assert ways == ["textbook, float32", "captioner, float32", "captioner, bfloat16"]
    assert outcome["rows"][0]["times textbook"] == 1


def test_a_table_has_its_columns_in_line() -> None:
    rows: list[benchmark.Row] = [{"way": "a", "images/s": 123.456}, {"way": "longer", "images/s": 1.0}]
    assert benchmark.table(rows).splitlines() == ["way     images/s", "a            123", "longer         1"]
