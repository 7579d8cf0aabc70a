"""Text and tokens: PTB tokenizer and vocabulary. Nothing here imports torch."""
