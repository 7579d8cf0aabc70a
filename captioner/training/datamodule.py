"""LightningDataModule for captions."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from captioner import checkpoint
from captioner.data.augmentation import Augmentation
from captioner.data.caption_files import read_records
from captioner.data.concepts import ConceptWords, wanted_words
from captioner.data.dataset import CaptionDataset, collate
from captioner.data.feature_cache import FeatureCache
from captioner.data.filters import usable, with_words
from captioner.data.images import limit_pixels
from captioner.data.records import Record, refuse_without_prompts
from captioner.data.sampler import DrawSampler
from captioner.data.shards import shard_sizes
from captioner.data.skip_report import USUAL_SHARE, Skipped
from captioner.data.split_files import draw_validation
from captioner.data.transforms import Transform
from captioner.data.unspaced import tell_unspaced
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.efficientnet_lite import EfficientNetLite
from captioner.models.encoder import GridEncoder
from captioner.text.pieces import Kind, Learned, Pieces
from captioner.text.vocabulary import Vocabulary
from captioner.training.checkpointing import progress
from captioner.training.feature_extraction import describe_origin, encode_images
from captioner.utils.console import print_status
from captioner.utils.counter import counting
from captioner.utils.seeding import refuse_another_seed, run_seed

TokenizerOption = Literal["english", Kind]

_CURES = {
    "train": "training needs some: write train for those to train on, or omit the splits and have a share drawn for "
    "validation (data.val_share 0.1)",
    "val": "training needs some: add a column split, name a folder of split files (data.splits), or have a share "
    "drawn (data.val_share 0.1)",
}


_LARGE_FILE = 20_000_000
"""Size in bytes of a caption file that takes seconds to read."""


class CaptionData(lightning.LightningDataModule):
    """Images and captions for training and validation.

    Preprocessing and encoder are those of the model given to `prepare_for`.

    Args:
        captions: Caption files of any format that is read (docs/data.md), or folders with captions beside pictures.
        images: Folder of the images, or one for each caption file; by default (null) image paths are relative to their
            caption file. COCO's train2017 and the like are found in it by name.
        splits: Folder of files that list the images of each split, or one for each caption file, for those that do not
            say which split an image is in.
        val_share: Share of each file's training images that is drawn for validation where no file has a split val, in
            (0, 1).
        val_seed: Another one draws other images for validation.
        min_count: Words of the training captions that are rarer become UNKNOWN.
        vocabulary_from: A checkpoint whose vocabulary is used in place of one counted from the captions, so that a
            captioner that learns further from other captions keeps all of its words; its tokenizer comes with it.
        batch_size: Images in a batch.
        max_captions: Captions taken of an image each epoch.
        flip: Whether images are mirrored every second time; not for captions that tell left from right.
        crop: Least share of each side that a random crop keeps, in (0, 1]; 1 crops nothing.
        jitter: How far brightness, contrast and saturation vary, as a share of their own, in [0, 1).
        erase: Largest share of each side that a gray rectangle covers, in [0, 1).
        feature_cache: File for the features of a frozen encoder, made when missing; None computes them each epoch.
        workers: Processes that load images; 0 loads in the process that trains.
        images_anywhere: Whether caption files may name images outside their folder.
        max_skipped: Share of a caption file's images, and of its captions, that may be unusable and are skipped, in
            [0, 1]; more are an error.
        max_pixels: Pixels of the largest image that is read, for the whole process; None for 178,956,970.
        prompts: Whether captions continue the text of a field or column ``prompt`` beside them, which is read and not
            learned.
        concepts: Whether batches tell which concepts captions and tags of an image name, and the vocabulary has the
            words of ImageNet's classes; for decoders with concepts.
        tokenizer: ``english`` is words in lower case without punctuation. The others are for any language, and keep
            capitals and punctuation: ``words`` where spaces stand between words; anywhere ``characters``, and ``bpe``
            and ``unigram``, subwords that are learned from the training captions.
        subwords: Number of subwords that ``bpe`` and ``unigram`` learn, at most.
    """

    def __init__(
        self,
        captions: list[str] | str,
        images: list[str | None] | str | None = None,
        splits: list[str | None] | str | None = None,
        min_count: int = 5,
        batch_size: int = 32,
        max_captions: int = 5,
        flip: bool = False,
        crop: float = 1.0,
        jitter: float = 0.0,
        erase: float = 0.0,
        feature_cache: str | None = None,
        workers: int = 2,
        images_anywhere: bool = False,
        max_skipped: float = USUAL_SHARE,
        max_pixels: int | None = None,
        concepts: bool = False,
        val_share: float | None = None,
        val_seed: int = 0,
        vocabulary_from: str | None = None,
        prompts: bool = False,
        tokenizer: TokenizerOption = "english",
        subwords: int = 4000,
    ) -> None:
        super().__init__()
        counts = {"min_count": min_count, "batch_size": batch_size, "max_captions": max_captions, "subwords": subwords}
        for name, value in counts.items():
            if value < 1:
                raise CaptionerError(f"data.{name} is {value}; it must be at least 1")
        if workers < 0:
            raise CaptionerError(f"data.workers is {workers}; it must be at least 0")
        self.augmentation = Augmentation(flip, crop, jitter, erase)
        if feature_cache and self.augmentation.needs_pixels:
            raise CaptionerError(
                f"cached features cannot vary by data.crop {crop}, data.jitter {jitter} or data.erase {erase}; "
                "set these to 1, 0 and 0, or drop data.feature_cache"
            )
        if val_share is not None and not 0 < val_share < 1:
            raise CaptionerError(f"data.val_share is {val_share}; it must be greater than 0 and less than 1")
        if tokenizer != "english":
            for name, given in (("concepts", concepts), ("vocabulary_from", vocabulary_from)):
                if given:
                    reason = "has a tokenizer" if name == "vocabulary_from" else "are English words"
                    raise CaptionerError(f"data.{name} {reason}; leave it out, or leave out data.tokenizer")
        self.files = [captions] if isinstance(captions, str) else captions
        self.images = self._one_each("images", images)
        self.splits = self._one_each("splits", splits)
        self.val_share = val_share
        self.val_seed = val_seed
        self.min_count = min_count
        self.vocabulary_from = Path(vocabulary_from) if vocabulary_from else None
        self.tokenizer = tokenizer
        self.subwords = subwords
        self.batch_size = batch_size
        self.max_captions = max_captions
        self.feature_cache = Path(feature_cache) if feature_cache else None
        self.workers = workers
        self.images_anywhere = images_anywhere
        self.max_skipped = max_skipped
        self.max_pixels = max_pixels
        if max_pixels is not None:
            limit_pixels(max_pixels)
        self.concepts = concepts
        self.prompts = prompts
        self.prepare_data_per_node = False  # machines that train together share the file of the feature cache
        self._seen = (0, 0)
        self._model: Callable[[], CaptionModel]
        self.train: CaptionDataset
        self.val: CaptionDataset

    def __deepcopy__(self, memo: dict[int, Any]) -> CaptionData:
        """Return itself: copies of a model, such as its moving average, share the data."""
        return self

    def prepare_for(self, model: Callable[[], CaptionModel]) -> None:
        """Set the model that images are prepared for.

        Args:
            model: Returns the network whose preprocessing is used and whose encoder fills the feature cache; called
                when the data is first needed.
        """
        self._model = model

    @cached_property
    def records(self) -> dict[str, list[Record]]:
        """The usable records of ``train`` and ``val``; what is skipped is reported on standard error.

        Raises:
            CaptionerError: The files are unusable, too many entries are, or a split is empty.
        """
        of_files: list[list[Record]] = []
        for file, images, splits in zip(self.files, self.images, self.splits, strict=True):
            of_files.append(self._usable(Path(file), images, splits, list(chain(*of_files))))
        if self.val_share is not None:
            of_files = self._draw_validation(of_files, self.val_share)
        records = list(chain(*of_files))
        if self.prompts:
            refuse_without_prompts(records, ", ".join(self.files), "set data.prompts to false")
        parts = {name: [record for record in records if record.split == name] for name in ("train", "val")}
        for name, part in parts.items():
            if not part:
                raise CaptionerError(f"{', '.join(self.files)}: no image is in split {name!r}; {_CURES[name]}")
        return parts

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the training captions, or of the checkpoint that is named."""
        if self.vocabulary_from is not None:
            content = checkpoint.read(self.vocabulary_from)
            return Vocabulary(content.words, content.tokenizer)
        texts = [text for record in self.records["train"] for text in (record.prompt, *record.captions)]
        always = wanted_words() if self.concepts else ()
        return Vocabulary.from_captions(texts, self.min_count, always, self._tokenizer(texts))

    def _tokenizer(self, texts: Sequence[str]) -> Pieces | None:
        if self.tokenizer == "english":
            return None
        if self.tokenizer == "bpe" or self.tokenizer == "unigram":
            return Pieces.learn(texts, self.subwords, self.tokenizer)
        return Pieces(self.tokenizer)

    def describe(self) -> dict[str, Any]:
        """Describe the data in plain values, for the model card."""
        train, val = self.records["train"], self.records["val"]
        return {
            "files": [os.path.basename(file) for file in self.files],
            "training images": len(train),
            "training captions": sum(len(record.captions) for record in train),
            "validation images": len(val),
            **({"validation share": f"{self.val_share} drawn with seed {self.val_seed}"} if self.val_share else {}),
            "vocabulary": self._describe_vocabulary(),
        }

    def _describe_vocabulary(self) -> str:
        count = len(self.vocabulary)
        if self.vocabulary_from is not None:
            return f"the {count} words of {self.vocabulary_from.name}"
        if self.tokenizer in get_args(Learned):
            return f"{count} subwords ({self.tokenizer}) learned from training captions"
        kind = "characters" if self.tokenizer == "characters" else "words"
        return f"{count} {kind} seen {self.min_count} times or more in training captions"

    def prepare_data(self) -> None:
        """Fill the feature cache if it is missing; called by Lightning in one process."""
        if self.feature_cache is None or self.feature_cache.exists():
            return
        assert self.trainer is not None
        # Lightning moves the model to the accelerator only after this.
        encoder = copy.deepcopy(self._encoder()).eval().to(self.trainer.strategy.root_device)
        if isinstance(encoder.trunk, EfficientNetLite):
            encoder.trunk.fold_batch_norm()
        images = self._cached_images()
        encoded = encode_images(
            self.feature_cache, self._origin(), encoder, self._transform(), images, self._views, self.batch_size
        )
        with counting("Encoding images", len(images)) as update:
            for done in encoded:
                update(done)

    def setup(self, stage: str) -> None:
        """Build the datasets; called by Lightning in every process."""
        transform = self._transform()
        train, val = self.records["train"], self.records["val"]
        train_cache = val_cache = None
        if self.feature_cache is not None:
            origin = self._origin()
            train_cache = FeatureCache(self.feature_cache, origin)
            val_cache = FeatureCache(self.feature_cache, origin, first=len(train))
        words = ConceptWords(self.vocabulary) if self.concepts else None
        self.train = CaptionDataset(
            train, self.vocabulary, transform, self.max_captions, self.augmentation, train_cache, words
        )
        self.val = CaptionDataset(val, self.vocabulary, transform, self.max_captions, cache=val_cache)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches, reshuffled each epoch."""
        return self._loader(self.train, shuffle=True, seen=self._seen)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches, in the file's order."""
        return self._loader(self.val, shuffle=False)

    def state_dict(self) -> dict[str, Any]:
        """The position in the data for a checkpoint: the epoch, and the number of its images seen."""
        assert self.trainer is not None
        epoch, batches = progress(self.trainer)
        return {
            "epoch": epoch,
            "images": batches * self._together,
            "together": self._together,
            "size": len(self.train),
            "seed": run_seed(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the checkpoint's position.

        Raises:
            CaptionerError: The number of images or the seed differs, or the batch size within an unfinished epoch.
        """
        refuse_another_seed(state_dict)
        size = len(self.records["train"])
        if state_dict["size"] != size:
            raise CaptionerError(
                f"the checkpoint to resume from was trained on {state_dict['size']} images, of which {size} can be "
                "used now; resume with the same data"
            )
        if state_dict["images"] and state_dict.get("together", self._together) != self._together:
            raise CaptionerError(
                f"the checkpoint to resume from is within an epoch of {state_dict['together']} images a step, not of "
                f"{self._together}; resume with its data.batch_size and trainer.devices, or from an epoch's end"
            )
        self._seen = state_dict["epoch"], state_dict["images"]

    def _one_each(self, name: str, given: list[str | None] | str | None) -> list[Path | None]:
        """One folder per caption file, from one for all or one for each."""
        folders = given if isinstance(given, list) else [given] * len(self.files)
        if len(folders) != len(self.files):
            raise CaptionerError(
                f"data.{name} lists {len(folders)} folders for {len(self.files)} caption files; give one for all, or "
                "one for each (null for the caption file's own)"
            )
        return [None if folder is None else Path(folder) for folder in folders]

    def _draw_validation(self, of_files: Sequence[Sequence[Record]], share: float) -> list[list[Record]]:
        """Draws from each file, so that the images of one can be drawn again without the others."""
        if any(record.split == "val" for record in chain(*of_files)):
            raise CaptionerError(
                f"data.val_share is {share}, but {', '.join(self.files)} have images in split 'val'; leave it out"
            )
        return [draw_validation(records, share, self.val_seed) for records in of_files]

    def _usable(self, file: Path, folder: Path | None, splits: Path | None, before: Sequence[Record]) -> list[Record]:
        """The usable records of a caption file, without images of earlier files."""
        skipped = Skipped(file, self.max_skipped)
        size = file.stat().st_size if file.is_file() else 0
        if size >= _LARGE_FILE:
            rank_zero_only(print_status)(f"captioner: reads {str(file)!r} ({size / 1e6:.0f} MB)")
        records = read_records(
            file,
            folder,
            splits,
            anywhere=self.images_anywhere,
            wanted=("train", "val"),
            skipped=skipped,
            prompts=self.prompts,
        )
        records = with_words(records, skipped)
        is_first = getattr(rank_zero_only, "rank", 0) == 0
        with counting("Checking images", len(records)) if is_first else nullcontext() as report:
            records = usable(records, skipped, before, report)
        rank_zero_only(skipped.report)()
        if self.tokenizer in ("english", "words"):
            texts = (caption for record in records for caption in record.captions)
            rank_zero_only(tell_unspaced)(texts, file, "set data.tokenizer to characters or bpe, or ")
        return records

    def _loader(self, dataset: CaptionDataset, shuffle: bool, seen: tuple[int, int] = (0, 0)) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        if len(dataset) < processes:
            raise CaptionerError(
                f"a split of {len(dataset)} images is too small for {processes} processes; lower trainer.devices"
            )
        shards = shard_sizes(record.image for record in dataset.records) if dataset.cache is None else []
        sampler = DrawSampler(len(dataset), shuffle, seen, rank, processes, shards)
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            persistent_workers=self.workers > 0,
            worker_init_fn=partial(_begin_worker, self.max_pixels),
            # A generator of its own, so that creating an iterator does not advance that of dropout.
            generator=torch.Generator(),
        )

    @property
    def _together(self) -> int:
        """Images per step over all processes."""
        assert self.trainer is not None
        return self.batch_size * self.trainer.world_size

    @property
    def _views(self) -> int:
        return 1 + self.augmentation.flip

    def _encoder(self) -> GridEncoder:
        encoder = self._model().encoder
        if not encoder.is_frozen:
            raise CaptionerError("data.feature_cache needs a frozen encoder; drop it or train no stage of the encoder")
        return encoder

    def _transform(self) -> Transform:
        return self._model().config.transform

    def _cached_images(self) -> list[Path]:
        return [record.image for split in ("train", "val") for record in self.records[split]]

    def _origin(self) -> str:
        return describe_origin(self._encoder(), self._transform(), self._cached_images(), self._views)


def _begin_worker(max_pixels: int | None, _: int) -> None:
    """Initialize a data loading process."""
    # Slurm and systemd signal all processes of a job, but the training process needs batches until it has saved.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A spawned process does not inherit the limit.
    if max_pixels is not None:
        limit_pixels(max_pixels)
