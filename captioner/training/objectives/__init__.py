"""Objectives of a captioner's training, a file each; `captioner.training.module` lists those of a run."""
