"""Captioning of whole inputs on a Ray cluster: planned once, a part for each shard, resumed where it ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.errors import CaptionerError
from captioner.ray.addresses import list_names
from captioner.ray.batch import CaptionBatch
from captioner.ray.cluster import caption_shards, choose_actors, connected
from captioner.ray.inputs import Shard, Wish, shards
from captioner.ray.parts import Parts
from captioner.ray.plan import Plan, read_plan, write_plan
from captioner.ray.worker import Work
from captioner.utils.counter import counting


@dataclass(frozen=True)
class Cluster:
    """What a job asks of the cluster.

    Attributes:
        actors: Number of actors; None for as many as fit.
        cpus: CPUs of each; None for 1, or beside GPUs for their share of the machine's.
        gpus: GPUs of each.
    """

    actors: int | None = None
    cpus: float | None = None
    gpus: float = 0.0


@dataclass
class Counts:
    """What came of a job.

    Attributes:
        pictures: Pictures of the shards that were done now.
        errors: Those of them that could not be captioned.
        failures: Shards that are left.
        before: Shards that were done before.
    """

    pictures: int = 0
    errors: int = 0
    failures: int = 0
    before: int = 0


def caption_on_ray(
    wish: Wish,
    work: Work,
    cluster: Cluster,
    made_with: dict[str, Any],
    resume: bool,
    overwrite: bool,
    report: Callable[[str], None],
) -> Counts:
    """Caption everything that is wished for, and write a part for each shard.

    Args:
        wish: The inputs.
        work: How they are captioned, and where the captions go.
        cluster: What is asked of the cluster.
        made_with: What captions depend on beside the inputs, as JSON values: a job goes on with the same alone.
        resume: Whether to go on with a job.
        overwrite: Whether to begin it anew.
        report: Called with why a shard is left, in one line.

    Raises:
        CaptionerError: The output has another job, an option is invalid, or the cluster has no room for the actors.
    """
    made_with = {
        **made_with,
        "input": list(wish.inputs),
        "shard size": wish.shard_size,
        "column": wish.column,
        "choice of kept columns": list(wish.keep),
    }
    # As JSON gives them back: tuples are lists there.
    made_with = json.loads(json.dumps(made_with))
    plan = _plan_there(wish, work.parts, made_with, resume, overwrite)
    if plan is not None and not len(_remaining(plan, work.parts)):
        return Counts(before=plan.count)
    CaptionBatch(**{**work.captioner, "device": "cpu"})  # what is wrong with model or options is told before all else
    with connected():
        actors = choose_actors(cluster.actors, cluster.cpus, cluster.gpus)
        if plan is None:
            write_plan(work.parts.folder, made_with, _listed(wish, work.parts))
            plan = read_plan(work.parts.folder)
            assert plan is not None
        places = _remaining(plan, work.parts)
        counts = Counts(before=plan.count - len(places))
        with counting("Captioning shards", len(places)) as update:
            for done, result in enumerate(caption_shards(work, actors, places), start=1):
                counts.pictures += result["pictures"]
                counts.errors += result["errors"]
                if result["failure"]:
                    counts.failures += 1
                    report(result["failure"])
                update(done)
    work.parts.clean()
    return counts


def _plan_there(wish: Wish, parts: Parts, made_with: dict[str, Any], resume: bool, overwrite: bool) -> Plan | None:
    """The plan of the job to go on with; None for a new one."""
    for given in wish.inputs:
        if f"{parts.folder}/".startswith(f"{given.rstrip('/')}/"):
            raise CaptionerError(f"output {parts.folder} is in {given}, which is read; write to another folder")
    plan = read_plan(parts.folder)
    if plan is None:
        if others := [name for name in list_names(parts.folder) if not name.startswith(".")]:
            raise CaptionerError(f"{parts.folder}: holds {others[0]}, which is no part of a job; name an empty folder")
        return None
    if overwrite:
        return None
    if not resume:
        if parts.all_names():
            raise CaptionerError(f"{parts.folder}: already has captions; resume, overwrite, or name another folder")
        return None
    other = [name for name in {**plan.made_with, **made_with} if plan.made_with.get(name) != made_with.get(name)]
    if other:
        raise CaptionerError(
            f"{parts.folder}: was begun with another {' and '.join(other)}; resume with the same, or name another "
            "folder"
        )
    return plan


def _listed(wish: Wish, parts: Parts) -> Iterator[Shard]:
    """The shards; once all could be listed, parts of a job that is replaced are removed."""
    is_empty = True
    for shard in shards(wish):
        is_empty = False
        yield shard
    if is_empty:
        raise CaptionerError("there is no picture, tar shard or Parquet file in what was given; name others")
    parts.remove()


def _remaining(plan: Plan, parts: Parts) -> np.ndarray:
    """Shards without a part: number, begin and end of their lines, shape (shards, 3)."""
    is_left = np.ones(plan.count, dtype=bool)
    is_left[[number for number in parts.done() if number < plan.count]] = False
    return np.stack([np.arange(plan.count), plan.starts[:-1], plan.starts[1:]], axis=1)[is_left]
