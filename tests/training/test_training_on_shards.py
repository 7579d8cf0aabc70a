"""Training on tar shards: the same run as on files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shard_files import write_shards
from test_interrupted_training import assert_equal_runs
from training_runs import run

PICTURES = 40


@pytest.mark.parametrize("cache", [False, True])
def test_training_on_shards_is_training_on_the_files(shapes: Path, tmp_path: Path, cache: bool) -> None:
    shards = write_shards(shapes, tmp_path / "tar")
    config: dict[str, Any] = {
        "trainer": {"max_epochs": 1},
        "model": {
            "encoder": {"last_stage": "blocks.2", "weights": "none", "image_size": 32},
            "optimizer": {"warmup_steps": 1},
            "decoder": {"embedding_size": 16, "hidden_size": 16, "attention_size": 16},
        },
        "data": {"min_count": 1, "batch_size": 6, "workers": 0},
    }
    for name, captions in (("files", shapes / "captions.jsonl"), ("shards", shards)):
        features = ["--data.feature_cache", str(tmp_path / f"{name}.features")] if cache else []
        where = ["--trainer.default_root_dir", str(tmp_path / name), "--data.captions", f"[{captions}]"]
        assert run(config, tmp_path, *where, *features) == 0
    assert_equal_runs(tmp_path / "shards", tmp_path / "files")
