"""Caption scores by the COCO protocol, in Python: BLEU-1 to 4, ROUGE-L and CIDEr-D over PTB tokens.

They equal those of the official code, its Java tokeniser included. Nothing here imports torch.
"""

from captioner.metrics.evaluation import Evaluation, evaluate, score

__all__ = ["Evaluation", "evaluate", "score"]
