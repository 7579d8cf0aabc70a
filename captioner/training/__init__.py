"""Training: tasks, LightningModules, data, losses, and the command that runs them."""
