"""The cluster: what it has, and shards given to its actors."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.errors import CaptionerError, first_line
from captioner.ray.worker import CaptionShards, Work

_MOST_TASKS = 4096
"""Tasks that shards are divided into at most: the driver keeps something of each."""


@dataclass(frozen=True)
class Actors:
    """Actors that fit on a cluster.

    Attributes:
        count: How many.
        cpus: CPUs of each.
        gpus: GPUs of each, perhaps a fraction.
    """

    count: int
    cpus: float
    gpus: float


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that ``RAY_ADDRESS`` names or that runs on this machine, else start one here.

    Raises:
        CaptionerError: There is none, and none can be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what this starts sends nothing anywhere
    import ray

    try:
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # what it raises shares no base
        raise CaptionerError(
            f"no Ray cluster can be reached or started: {first_line(error)}; start one (ray start), or name it "
            "in RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def choose_actors(count: int | None, cpus: float | None, gpus: float) -> Actors:
    """Decide how many actors run, of those that the cluster can schedule now.

    Args:
        count: The number that was asked for; None for as many as fit.
        cpus: CPUs of each; None for 1, and beside GPUs for the machine's CPUs divided by its GPUs.
        gpus: GPUs of each.

    Raises:
        CaptionerError: They can never be scheduled, or others have what they need.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return fit(machines, ray.available_resources(), count, cpus, gpus)


def fit(
    machines: Sequence[Mapping[str, float]],
    free: Mapping[str, float],
    count: int | None,
    cpus: float | None,
    gpus: float,
) -> Actors:
    """`choose_actors` for given machines.

    Args:
        machines: The resources of each, ``CPU`` and ``GPU`` among them.
        free: What nobody has taken, of all machines together.
        count: As there.
        cpus: As there.
        gpus: As there.

    Raises:
        CaptionerError: As there.
    """
    if cpus is None:
        cpus = _cpus_beside(machines, gpus)
    need = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    told = " and ".join(f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in need.items())
    places = sum(_times(machine, need) for machine in machines)
    if not places:
        most = max(machines, key=lambda machine: (machine.get("GPU", 0), machine.get("CPU", 0)), default={})
        has = f"{most.get('CPU', 0):g} CPUs and {most.get('GPU', 0):g} GPUs"
        raise CaptionerError(f"an actor needs {told}, but no machine of the cluster has more than {has}; ask for less")
    if count is not None and count > places:
        raise CaptionerError(
            f"{count} actors of {told} do not fit on the cluster, which has room for {places}; ask for that"
        )
    now = min(places, _times(free, need))
    if now < (count or 1):
        raise CaptionerError(
            f"{count or 1} actors of {told} do not fit beside what runs on the cluster, which leaves room for {now} of "
            f"{places}; wait for it, or ask for less"
        )
    return Actors(count or now, cpus, gpus)


def caption_shards(work: Work, actors: Actors, places: np.ndarray) -> Iterator[dict[str, Any]]:
    """Have actors caption shards.

    Args:
        work: The job.
        actors: How many, and what each has.
        places: Number of each shard, where its line begins in the plan, and where it ends: shape (shards, 3).

    Yields:
        What `CaptionShards` tells of a shard, in any order.

    Raises:
        CaptionerError: An actor cannot go on.
    """
    import pyarrow as pa
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()
    table = pa.table({name: places[:, index] for index, name in enumerate(("shard", "start", "end"))})
    tasks = min(len(places), _MOST_TASKS)
    shards = ray.data.from_arrow([table.slice(*_range(task, tasks, len(places))) for task in range(tasks)])
    results = shards.map_batches(
        CaptionShards,
        fn_constructor_args=(work, _Begin(attempts)),
        batch_size=1,
        num_cpus=actors.cpus,
        num_gpus=actors.gpus or None,
        # One task at a time: what waits at one actor could be done by another.
        compute=ActorPoolStrategy(size=min(actors.count, tasks), max_tasks_in_flight_per_actor=1),
    )
    try:
        yield from results.iter_rows()
    except ray.exceptions.RayError as error:
        if (own := _own_error(error)) is not None:
            raise own from error
        if isinstance(error, ray.exceptions.RayTaskError):  # a fault of this package, whose traceback is wanted
            raise
        raise CaptionerError(f"Ray ended the work: {first_line(error)}; what is done is kept, resume it") from error


class _Attempts:
    """Counts how often each shard was begun; an actor that outlives those that caption."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, shard: int) -> int:
        self._begun[shard] += 1
        return self._begun[shard]


class _Begin:
    """Asks `_Attempts`."""

    def __init__(self, attempts: Any) -> None:  # noqa: ANN401 (a handle)
        self._attempts = attempts

    def __call__(self, shard: int) -> int:
        import ray

        count: int = ray.get(self._attempts.begin.remote(shard))
        return count


def _cpus_beside(machines: Sequence[Mapping[str, float]], gpus: float) -> float:
    """CPUs for each actor, where nobody said."""
    shares = [machine.get("CPU", 0) * gpus // machine["GPU"] for machine in machines if gpus and machine.get("GPU")]
    return max(1.0, min(shares, default=1.0))


def _times(resources: Mapping[str, float], need: Mapping[str, float]) -> int:
    return int(min(resources.get(name, 0) / amount for name, amount in need.items()) + 1e-6)


def _range(task: int, tasks: int, shards: int) -> tuple[int, int]:
    """First shard and number of shards of a task."""
    first, end = (shards * number // tasks for number in (task, task + 1))
    return first, end - first


def _own_error(error: Exception) -> CaptionerError | None:
    """The error that an actor raised, out of what Ray wraps it in; None if it is another."""
    inner: BaseException | None = error
    while inner is not None:
        if type(inner) is CaptionerError:
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return None
