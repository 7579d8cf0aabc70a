"""Training objectives, one module each; `captioner.training.module` selects those of a run."""
