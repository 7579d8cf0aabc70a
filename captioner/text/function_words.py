"""Function words that an English caption does not end with."""

FUNCTION_WORDS = (
    *("a", "an", "the", "this", "that", "his", "her", "its", "their", "and", "or", "with", "without", "of", "in", "on"),
    *("at", "to", "for", "from", "by", "near", "into", "upon", "while", "is", "are", "am", "be", "very"),
)
