"""Captioning on Ray Data: more pictures than one machine holds.

`batch` is a class for ``map_batches`` of one's own pipeline. `engine` captions whole inputs: `inputs` finds them and
divides them into shards, `plan` keeps the list of shards, `reading` reads a shard, and `parts` writes its captions.
Only `cluster` imports Ray itself.
"""

from captioner.ray.batch import CaptionBatch

__all__ = ["CaptionBatch"]
