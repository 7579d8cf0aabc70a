"""Networks: encoder, decoder, captioner and language model."""
