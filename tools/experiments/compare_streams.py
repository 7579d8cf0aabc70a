"""Which library feeds training from shards as a run here needs it: ``python tools/experiments/compare_streams.py``.

Two processes of two loaders each read uneven shards with every library that is installed (webdataset, datasets with
torchdata, litdata; none of them is needed by captioner itself). The table tells of each whether both processes have the
same number of steps, which pictures an epoch misses or repeats, whether two epochs differ, and whether an epoch that is
resumed after some steps goes on with the very batches that the whole one had.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captioner.data.caption_files import read_records
from captioner.data.dataset import CaptionDataset, Example
from captioner.data.records import Record
from captioner.data.sampler import DrawSampler
from captioner.data.shard_writer import Shard, write_shard
from captioner.data.shards import shard_sizes
from captioner.data.transforms import Transform
from captioner.text.vocabulary import Vocabulary

SIZES = (7, 12, 9, 10, 11)
PROCESSES, WORKERS, BATCH, DONE = 2, 2, 4, 3
"""Of the run; it is interrupted when `DONE` steps are done."""

LONGEST = 1200
"""Seconds that the run may take."""

Batches = list[list[int]]
Seen = dict[str, Any]
Read = Callable[[Path, int, bool], Batches]
"""The pictures of each batch of this process in an epoch; or those after an interruption."""


def main() -> None:
    """Prints the table; with ``--folder``, what one process of the run has seen, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        torch.distributed.init_process_group("gloo")
        print(json.dumps({name: _seen(read, args.folder) for name, read in LIBRARIES.items()}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shards"
        _write(folder)
        processes = _run(folder)
    print(f"{'library':<20} {'steps':<8} {'missed':>6} {'twice':>6}  {'epochs differ':<13}  resumed as if whole")
    for library in LIBRARIES:
        print(f"{library:<20} {_judge([told[library] for told in processes])}")


def _seen(read: Read, folder: Path) -> Seen:
    """The batches of two epochs and of the first one resumed, or why there are none."""
    told: Seen = {"epochs": [], "resumed": None, "error": None}
    try:
        told["epochs"] = [read(folder, epoch, False) for epoch in (0, 1)]
        told["resumed"] = read(folder, 0, True)
    except Exception as error:  # of whatever library
        told["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"[:80]
    return told


def _run(folder: Path) -> list[dict[str, Seen]]:
    """What each process of the run has seen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--folder", str(folder)]
    place = {"WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}, stdout=subprocess.PIPE)
        for rank in range(PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=LONGEST)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _write(folder: Path) -> None:
    """Uneven shards; a picture's color is its number."""
    first = 0
    for number, size in enumerate(SIZES):
        records = []
        for picture in range(first, first + size):
            file = folder.parent / f"{picture}.png"
            Image.new("RGB", (8, 8), (picture, 0, 0)).save(file)
            records.append(Record(file, ("a picture",), "train", picture))
        write_shard(Shard(folder / f"train-{number:06d}.tar", first, records))
        first += size


def _judge(told: Sequence[Seen]) -> str:
    if not all(each["epochs"] for each in told):
        return str(told[0]["error"])
    seen = Counter(chain.from_iterable(chain.from_iterable(each["epochs"][0] for each in told)))
    steps = "/".join(str(len(each["epochs"][0])) for each in told)
    twice = sum(count - 1 for count in seen.values())
    differ = all(each["epochs"][0] != each["epochs"][1] for each in told)
    equal = all(each["resumed"] == each["epochs"][0][DONE:] for each in told)
    fresh, exact = ("yes" if each else "no" for each in (differ, equal))
    why = f" ({told[0]['error']})" if told[0]["error"] else ""
    return f"{steps:<8} {sum(SIZES) - len(seen):>6} {twice:>6}  {fresh:<13}  {exact}{why}"


def _urls(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def _rank() -> int:
    return torch.distributed.get_rank()


def _numbers(pictures: Sequence[Any]) -> list[int]:
    """The numbers of decoded pictures."""
    return [int(picture.getpixel((0, 0))[0]) for picture in pictures]


def _of_samples(samples: Sequence[Any]) -> list[int]:
    """The numbers of samples of WebDataset and datasets, which hold bytes or decoded pictures."""
    pictures = [sample["png"] for sample in samples]
    return _numbers([Image.open(io.BytesIO(each)) if isinstance(each, bytes) else each for each in pictures])


def _captioner(folder: Path, epoch: int, resume: bool) -> Batches:
    """PyTorch's loader over members of tar files, in the order of `DrawSampler`."""
    records = read_records(folder)
    dataset = CaptionDataset(records, Vocabulary.from_captions(["a picture"], 1), Transform(8), 1)
    seen = (epoch, DONE * BATCH * PROCESSES if resume else 0)
    sampler = DrawSampler(len(records), True, seen, _rank(), PROCESSES, shard_sizes(each.image for each in records))
    loader = torch.utils.data.DataLoader(dataset, BATCH, sampler=sampler, num_workers=WORKERS, collate_fn=_of_examples)
    return list(loader)


def _of_examples(examples: Sequence[Example]) -> list[int]:
    return [int(example.image[0, 0, 0]) for example in examples]


def _webdataset(folder: Path, epoch: int, resume: bool, even: bool) -> Batches:
    """WebDataset as its documentation has it; it has no state, so that a resumed epoch begins anew."""
    import webdataset

    dataset = webdataset.WebDataset(
        _urls(folder),
        resampled=even,
        shardshuffle=False if even else len(SIZES),
        seed=epoch,
        nodesplitter=webdataset.split_by_node,
        empty_check=False,
    ).shuffle(10)
    if even:
        dataset = dataset.with_epoch(sum(SIZES) // (PROCESSES * WORKERS))
    return list(webdataset.WebLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=_of_samples))


def _datasets(folder: Path, epoch: int, resume: bool) -> Batches:
    """Hugging Face's streaming with the loader that keeps its state."""
    from datasets import load_dataset
    from datasets.distributed import split_dataset_by_node
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader() -> Any:  # noqa: ANN401 (untyped libraries)
        stream = load_dataset("webdataset", data_files={"train": _urls(folder)}, split="train", streaming=True)
        stream = split_dataset_by_node(stream, _rank(), PROCESSES).shuffle(seed=1, buffer_size=10)
        stream.set_epoch(epoch)
        return StatefulDataLoader(stream, BATCH, num_workers=WORKERS, collate_fn=_of_samples)

    return _resumed(loader, resume)


def _litdata(folder: Path, epoch: int, resume: bool) -> Batches:
    """LitData, which reads a format of its own: one process converts the pictures first."""
    from litdata import StreamingDataLoader, StreamingDataset, optimize

    converted = folder.parent / "litdata"
    if _rank() == 0 and not converted.exists():
        optimize(int, list(range(sum(SIZES))), str(converted), chunk_size=10, num_workers=1)
    torch.distributed.barrier()

    def loader() -> Any:  # noqa: ANN401
        dataset = StreamingDataset(str(converted), shuffle=True, seed=1)
        epochs = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=list)
        for _ in range(epoch):  # which it counts itself
            list(epochs)
        return epochs

    return _resumed(loader, resume)


def _resumed(loader: Callable[[], Any], resume: bool) -> Batches:
    """The whole epoch; or what a loader gives that goes on with the state of an interrupted one."""
    if not resume:
        return list(loader())
    begun, rest = loader(), loader()
    list(islice(begun, DONE))
    rest.load_state_dict(begun.state_dict())
    return list(rest)


LIBRARIES: dict[str, Read] = {
    "captioner": _captioner,
    "webdataset": partial(_webdataset, even=False),
    "webdataset resampled": partial(_webdataset, even=True),
    "datasets": _datasets,
    "litdata": _litdata,
}

if __name__ == "__main__":
    main()
