"""Beam search of a soft-attention decoder against the textbook's, image by image, on the same weights and grids."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch
from timing import add_counts, fastest
from torch import Tensor

from captioner.decoding import DecodingOptions, decode
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.decoder.attention import AdditiveAttention
from captioner.models.inference import convert
from captioner.text.vocabulary import END, PAD, START, UNKNOWN

SUMMARY = "beam search in captions a second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments; the defaults are COCO's usual sizes."""
    add_counts(
        parser,
        ("--images", 16, "images in the batch"),
        ("--cells", 196, "cells of the grid"),
        ("--channels", 2048, "length of a feature vector"),
        ("--size", 512, "length of embedding, LSTM state and attention space"),
        ("--vocabulary", 9490, "words"),
        ("--beam-size", 5, "width of the beam"),
        ("--max-words", 20, "words of every caption"),
        ("--repeats", 5, "runs of each, in turn; the fastest counts"),
    )


@torch.inference_mode()
def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times both in turn and takes the fastest run of each, the one that other work disturbed least.

    Raises:
        AssertionError: In float32 both do not write the same captions.
    """
    torch.manual_seed(1)
    config = DecoderConfig(embedding_size=args.size, hidden_size=args.size, attention_size=args.size)
    decoder = Decoder(config, args.channels, args.vocabulary).eval()
    # Of equal length, since the textbook's loop and ours stop under other conditions; and random weights that differ
    # enough for the beam to change its mind.
    decoder.output_bias[END] = -1e4
    for parameter in (decoder.embedding.weight, decoder.output.weight):  # type: ignore[union-attr]
        parameter.normal_()
    grid = torch.rand(args.images, args.cells, args.channels)
    options = DecodingOptions(args.beam_size, max_words=args.max_words, length_penalty=0, no_repeat_ngram=0)
    exact, half = (convert(copy.deepcopy(decoder), dtype) for dtype in (torch.float32, torch.bfloat16))
    half_grid = grid.bfloat16()

    def ours(model: Decoder, features: Tensor) -> list[list[int]]:
        return [hypotheses[0].words for hypotheses in decode(model, features, options)]

    ways: dict[str, Callable[[], list[list[int]]]] = {
        "textbook, float32": lambda: [textbook(decoder, one, options) for one in grid],
        "captioner, float32, matrices as they lie": lambda: ours(decoder, grid),
        "captioner, float32": lambda: ours(exact, grid),
        "captioner, bfloat16": lambda: ours(half, half_grid),
    }
    outcomes = {name: way() for name, way in ways.items()}
    assert outcomes["captioner, float32"] == outcomes["textbook, float32"], "the two beam searches disagree"
    rates = {name: args.images / seconds for name, seconds in fastest(ways, args.repeats).items()}
    return [
        {"way": name, "images/s": rate, "times textbook": rate / rates["textbook, float32"]}
        for name, rate in rates.items()
    ]


def textbook(decoder: Decoder, grid: Tensor, options: DecodingOptions) -> list[int]:
    """Beam search as tutorials write it: one image, its grid copied for each beam, keys computed at every step.

    Args:
        decoder: Whose weights are used, with soft attention and one layer.
        grid: Feature vectors of one image, shape (cells, channels).
        options: Width of the beam and longest caption; scores are not normalised.

    Returns:
        The best caption's word ids.
    """
    core = decoder.core
    attention = core.attention
    assert isinstance(attention, AdditiveAttention)
    assert decoder.output is not None
    cell = torch.nn.LSTMCell(decoder.config.embedding_size + grid.shape[1], decoder.config.hidden_size)
    weight_x, weight_h, bias_x, bias_h = core.cells.weights(0)
    weight_x = torch.cat([weight_x, core.context.weight], dim=1)
    cell.load_state_dict({"weight_ih": weight_x, "weight_hh": weight_h, "bias_ih": bias_x, "bias_hh": bias_h})

    beams = options.beam_size
    grids = grid.unsqueeze(0).expand(beams, -1, -1).clone()
    hidden, memory = torch.tanh(core.initial_state(grids.mean(1))).chunk(2, dim=1)
    scores = torch.zeros(beams, 1)
    sentences = torch.full((beams, 1), START)
    for position in range(options.max_words):
        keys = attention.key(grids)  # (beams, cells, attention_size)
        energy = attention.energy(torch.tanh(keys + attention.query(hidden).unsqueeze(1))).squeeze(2)
        weights = energy.softmax(1)
        context = torch.sigmoid(attention.gate(hidden)) * (grids * weights.unsqueeze(2)).sum(1)
        words = torch.cat([decoder.embedding(sentences[:, -1]), context], dim=1)
        hidden, memory = cell(words, (hidden, memory))
        log_probabilities = (decoder.output(hidden) + decoder.output_bias).log_softmax(1)
        log_probabilities[:, [PAD, START, UNKNOWN]] = -torch.inf
        total = scores + log_probabilities
        best, places = (total[0] if position == 0 else total.flatten()).topk(beams)
        parents, last = places // total.shape[1], places % total.shape[1]
        sentences = torch.cat([sentences[parents], last.unsqueeze(1)], dim=1)
        hidden, memory, grids = hidden[parents], memory[parents], grids[parents]
        scores = best.unsqueeze(1)
    return [word for word in sentences[0, 1:].tolist() if word != END]
