"""Which words can be concepts, and what a picture's captions and tags name."""

from __future__ import annotations

from pathlib import Path

import torch

from captioner.data.concepts import ConceptWords, as_targets, known, wanted_words
from captioner.data.records import Record
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary


def vocabulary(*words: str) -> Vocabulary:
    return Vocabulary([*SPECIAL_WORDS, *words])


def test_the_file_has_a_word_for_imagenets_classes_and_cocos_things() -> None:
    assert len(known().classes) == 1000
    assert len(known().things) == 80
    words = wanted_words()
    assert all(word == word.lower() and " " not in word for word in words)
    assert {"dog", "saxophone", "toaster", "lion"} <= set(words)


def test_concepts_are_content_words_and_those_of_classes() -> None:
    words = vocabulary("a", "dog", "runs", "on", "saxophone")
    concepts = ConceptWords(words)
    assert concepts.ids.tolist() == [0, words.id("dog"), words.id("runs"), words.id("saxophone")]
    dog = known().classes.index("dog")
    assert concepts.classes[dog] == 1
    assert concepts.classes[known().classes.index("lion")] == 0  # a word that the vocabulary does not have


def test_captions_and_tags_name_concepts() -> None:
    words = vocabulary("dog", "cat", "boxes", "box", "hydrant")
    concepts = ConceptWords(words)
    names = {int(id_): words.words[id_] for id_ in concepts.ids}

    def named(*captions: str, tags: tuple[tuple[str, float], ...] = ()) -> dict[str, float]:
        record = Record(Path("x.jpg"), captions, "train", 1, tags)
        return {names[int(concepts.ids[index])]: share for index, share in concepts.of(record)}

    assert named("Two dogs and a box.") == {"dog": 1.0, "box": 1.0}
    assert named("boxes") == {"boxes": 1.0, "box": 1.0}
    assert named("a dog", tags=(("cat", 0.4), ("dog", 0.3), ("fire hydrant", 0.9), ("sofa", 1.0))) == {
        "dog": 1.0,
        "cat": 0.4,
        "hydrant": 0.9,
    }


def test_targets_are_probabilities_of_all_concepts() -> None:
    assert torch.equal(as_targets([(1, 1.0), (3, 0.5)], 4), torch.tensor([0, 1.0, 0, 0.5]))
    assert torch.equal(as_targets([], 4), torch.zeros(4))


def test_a_vocabulary_has_wanted_words_that_no_caption_has() -> None:
    made = Vocabulary.from_captions(["a dog", "a cat"], 1, always=["saxophone", "dog"])
    assert made.words[4:] == ("a", "cat", "dog", "saxophone")
