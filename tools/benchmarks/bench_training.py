"""A training step of the soft-attention decoder against the textbook's, on the same weights, grids and captions."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import torch
from timing import add_counts, fastest, training_step
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.decoder.attention import AdditiveAttention
from captioner.text.vocabulary import END, PAD, START
from captioner.training.objectives.words import word_loss
from captioner.utils.runtime import keep_freed_memory

SUMMARY = "a training step of the decoder in milliseconds"

MEAN_WORDS, SPREAD, SHORTEST, LONGEST = 10.5, 2.4, 6, 20
"""Words of COCO's captions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments; the defaults are COCO's usual sizes."""
    add_counts(
        parser,
        ("--images", 6, "images in the batch"),
        ("--captions", 5, "captions of each"),
        ("--cells", 196, "cells of the grid"),
        ("--channels", 2048, "length of a feature vector"),
        ("--size", 512, "length of embedding, LSTM state and attention space"),
        ("--vocabulary", 9490, "words"),
        ("--repeats", 5, "runs of each, in turn; the fastest counts"),
    )


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times loss and gradients of both in both precisions, the matrix products that they consist of, and Adam.

    Raises:
        AssertionError: Losses or gradients of both differ.
    """
    keep_freed_memory()
    torch.manual_seed(1)
    config = DecoderConfig(embedding_size=args.size, hidden_size=args.size, attention_size=args.size)
    decoder = Decoder(config, args.channels, args.vocabulary)
    grid = torch.rand(args.images, args.cells, args.channels)
    captions = make_captions(args.images, args.captions, args.vocabulary)
    losses: dict[str, Callable[[], Tensor]] = {
        "textbook": lambda: textbook(decoder, grid, captions),
        "captioner": lambda: word_loss(decoder(grid, captions)),
    }
    _check(decoder, losses)

    ways: dict[str, Callable[[], object]] = {}
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        ways |= {f"{who}, {name}": training_step(decoder, loss, dtype) for who, loss in losses.items()}
        ways[f"limit: matrix products alone, {name}"] = products(decoder, grid, captions, dtype)
    ways["Adam's step, beside each"] = torch.optim.Adam(decoder.parameters()).step
    seconds = fastest(ways, args.repeats)
    slowest = seconds["textbook, float32"]
    return [
        {"step": name, "ms": 1000 * each, "textbook's time / this": slowest / each} for name, each in seconds.items()
    ]


def make_captions(images: int, per_image: int, vocabulary: int) -> Tensor:
    """Random words in sentences as long as COCO's, the longer first, shape (images, captions an image, length)."""
    lengths = torch.normal(MEAN_WORDS, SPREAD, (images, per_image)).round().clamp(SHORTEST, LONGEST).long()
    lengths = lengths.sort(dim=1, descending=True).values
    lengths = lengths[lengths[:, 0].argsort(descending=True)]
    captions = torch.full((images, per_image, int(lengths.max()) + 2), PAD)
    for image, caption in itertools.product(range(images), range(per_image)):
        words = int(lengths[image, caption])
        captions[image, caption, : words + 2] = torch.tensor(
            [START, *torch.randint(4, vocabulary, (words,)).tolist(), END]
        )
    return captions


def textbook(decoder: Decoder, grid: Tensor, captions: Tensor) -> Tensor:
    """The loss as tutorials compute it: an image a caption, keys and output anew at each step, tanh written out.

    Args:
        decoder: Whose weights are used, with soft attention and one layer.
        grid: Feature vectors, shape (images, cells, channels).
        captions: Word ids, shape (images, captions an image, length).

    Returns:
        Mean cross-entropy a word.
    """
    core = decoder.core
    attention, lstm = core.attention, core.cells
    assert isinstance(attention, AdditiveAttention)
    assert decoder.output is not None
    grids = grid.repeat_interleave(captions.shape[1], dim=0)
    sentences = captions.flatten(0, 1)
    order = (sentences != PAD).sum(1).argsort(descending=True)
    grids, sentences = grids[order], sentences[order]
    lengths = (sentences != PAD).sum(1) - 1
    hidden, memory = torch.tanh(core.initial_state(grids.mean(1))).chunk(2, dim=1)
    weight_x, weight_h, bias_x, bias_h = lstm.weights(0)
    weight_x = torch.cat([weight_x, core.context.weight], dim=1)
    predicted, wanted = [], []
    for step in range(int(lengths.max())):
        still = int((lengths > step).sum())
        grids, hidden, memory = grids[:still], hidden[:still], memory[:still]
        keys = attention.key(grids)
        energy = attention.energy(torch.tanh(keys + attention.query(hidden).unsqueeze(1))).squeeze(2)
        weights = energy.softmax(1)
        context = torch.sigmoid(attention.gate(hidden)) * (grids * weights.unsqueeze(2)).sum(1)
        words = torch.cat([decoder.dropout(decoder.embedding(sentences[:still, step])), context], dim=1)
        gates = torch.nn.functional.linear(words, weight_x, bias_x) + torch.nn.functional.linear(
            hidden, weight_h, bias_h
        )
        i, f, g, o = gates.chunk(4, dim=1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(memory)
        predicted.append(decoder.output(decoder.dropout(hidden)) + decoder.output_bias)
        wanted.append(sentences[:still, step + 1])
    return cross_entropy(torch.cat(predicted).float(), torch.cat(wanted))


def products(decoder: Decoder, grid: Tensor, captions: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products of a step, forward and backward, and nothing else.

    What is known ahead is one product, the recurrence has one a step, and the gradient of each weight is one product
    over all words. The grid needs no gradient.
    """
    images, cells, channels = grid.shape
    per_image, size = captions.shape[1], decoder.config.hidden_size
    open_sentences = [int(each) for each in (captions[:, :, 1:] != PAD).sum((0, 1)) if each]
    words = sum(open_sentences)
    vocabulary = decoder.embedding.num_embeddings
    shapes = [(images * cells, channels, size), (size, images * cells, channels)]  # keys, and their weights' gradient
    for outputs, inputs in ((4 * size, size), (vocabulary, size)):  # words into the LSTM, and the next words
        shapes += [(words, inputs, outputs), (words, outputs, inputs), (outputs, words, inputs)]
    for outputs, inputs in ((size, size), (4 * size, size), (4 * size, channels)):  # query, state, context
        shapes += [each for rows in open_sentences for each in ((rows, inputs, outputs), (rows, outputs, inputs))]
        shapes.append((outputs, words, inputs))
    pairs = [(torch.rand(m, k, dtype=dtype), torch.rand(k, n, dtype=dtype)) for m, k, n in shapes]
    weights = torch.rand(images, per_image, cells, dtype=dtype)
    features, context = grid.to(dtype), torch.rand(images, per_image, channels, dtype=dtype)

    def way() -> None:
        for left, right in pairs:
            torch.mm(left, right)
        for _ in open_sentences:
            torch.bmm(weights, features)
            torch.bmm(context, features.transpose(1, 2))

    return way


def _check(decoder: Decoder, losses: dict[str, Callable[[], Tensor]]) -> None:
    """Both compute the same loss and the same gradients, dropout apart."""
    decoder.eval()
    gradients = []
    values = []
    for loss in losses.values():
        decoder.zero_grad(set_to_none=True)
        values.append(loss())
        values[-1].backward()  # type: ignore[no-untyped-call]
        gradients.append({name: each.grad for name, each in decoder.named_parameters()})
    decoder.train()
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-5)
    for name, expected in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], expected, rtol=1e-3, atol=1e-5, msg=f"gradients of {name} differ"
        )
