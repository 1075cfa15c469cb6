"""Supervised fine-tuning on nine tasks."""
