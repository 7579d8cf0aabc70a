"""Caption metrics of the COCO evaluation in pure Python: BLEU-1 to 4, ROUGE-L and CIDEr-D.

Over PTB tokens, the default, they equal those of the official code, including its Java tokenizer. Of what is not in
Python itself, they need numpy alone.
"""

from captioner.metrics.accumulator import CaptionScores
from captioner.metrics.evaluation import Evaluation, evaluate, score

__all__ = ["CaptionScores", "Evaluation", "evaluate", "score"]
