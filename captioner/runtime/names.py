"""What exported graphs, their inputs and their outputs are called."""

PIXELS = "pixels"
"""Images as the encoder takes them; where networks have several kinds of preprocessing, ``pixels_0`` and so on."""
WORDS = "words"
LOG_PROBABILITIES = "log_probabilities"
ATTENTION = "attention"
NEXT = "next_"
"""Prefix of the names of the parts of the next state."""

PHOTOGRAPH_LOG_ODDS, RIGHT_LOG_ODDS, CONCEPT_LOG_ODDS = "photograph_log_odds", "right_log_odds", "concept_log_odds"
CONFIDENCE = (PHOTOGRAPH_LOG_ODDS, RIGHT_LOG_ODDS, CONCEPT_LOG_ODDS)
"""What the encoder of a calibrated model gives beside the state: the log-odds of a photograph, what the picture adds to
those of a right caption, and those of each concept."""
