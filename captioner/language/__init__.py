"""The decoder without a picture: a language model of words or characters."""
