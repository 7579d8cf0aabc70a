"""Several machines: two nodes of one process each on the loopback are one node of two processes, also after a kill."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import CAPTIONER, started, wait_until
from shard_files import write_shards
from test_interrupted_training import assert_equal_runs

from captioner.training.checkpointing import LAST

PICTURES = 60
LONGEST = 900.0
"""Seconds that a run may take on a busy machine; it takes some 20."""

NODES = ["--trainer.num_nodes", "2", "--trainer.devices", "1"]


@pytest.fixture
def command(shapes: Path, tmp_path: Path) -> list[str]:
    """The command of all nodes, on 48 training pictures in 24 shards."""
    content: dict[str, Any] = {
        "trainer": {"max_epochs": 4, "gradient_clip_val": 5.0, "accelerator": "cpu", "strategy": "ddp"},
        "model": {
            "encoder": {"name": "resnet18", "weights": "none", "unfreeze_from": "layer4", "image_size": 32},
            "decoder": {"embedding_size": 16, "hidden_size": 16, "attention_size": 16, "dropout": 0.3},
        },
        "data": {
            "captions": [str(write_shards(shapes, tmp_path / "shards", 2))],
            "min_count": 1,
            "batch_size": 4,
            "crop": 0.9,
            "workers": 1,
        },
        "checkpoint": {"monitor": "val/loss", "mode": "min"},
        "early_stopping": {"monitor": "val/loss", "mode": "min", "patience": 999},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    return ["train", "--config", str(tmp_path / "config.yaml"), "--save_every_steps", "2"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def by_torchrun(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    place = ["--node_rank", str(node), "--master_addr", "127.0.0.1", "--master_port", str(port)]
    torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", *place]
    return [sys.executable, *torchrun, "-m", "captioner"], {}


def by_slurm(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    """What srun sets."""
    job = {"JOB_ID": "1", "JOB_NAME": "captions", "NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2"}
    task = {"PROCID": str(node), "LOCALID": "0", "NODEID": str(node), "NODELIST": "127.0.0.1"}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return CAPTIONER, {f"SLURM_{name}": value for name, value in (job | task).items()} | where


def by_hand(node: int, port: int) -> tuple[list[str], dict[str, str]]:
    return CAPTIONER, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(node)}


LAUNCHERS = {"torchrun": by_torchrun, "slurm": by_slurm, "hand": by_hand}


def run_nodes(command: list[str], folder: Path, launcher: str, *options: str, is_killed: bool = False) -> list[int]:
    """Runs two nodes, of which the second is killed after a checkpoint; gives their exit codes."""
    port = free_port()
    with ExitStack() as stack:
        nodes = []
        for node in range(2):
            program, variables = LAUNCHERS[launcher](node, port)
            words = [*program, *command, "--trainer.default_root_dir", str(folder), *NODES, *options]
            environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
            nodes.append(stack.enter_context(started(words, LONGEST, env=environment)))
        if is_killed:
            wait_until((folder / LAST).exists, nodes[0])
            nodes[1].kill()
        return [node.wait(LONGEST) for node in nodes]


@pytest.mark.slow
def test_two_nodes_are_one_with_two_processes_and_go_on_after_one_was_killed(
    command: list[str], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    one = [*CAPTIONER, *command, "--trainer.default_root_dir", str(whole), "--trainer.devices", "2"]
    with started(one, LONGEST, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        assert process.wait(LONGEST) == 0
    assert 0 not in run_nodes(command, killed, "hand", is_killed=True)
    assert run_nodes(command, killed, "slurm", "--resume", str(killed / LAST)) == [0, 0]
    assert_equal_runs(killed, whole)
    assert run_nodes(command, tmp_path / "other", "torchrun") == [0, 0]
    assert_equal_runs(tmp_path / "other", whole)
