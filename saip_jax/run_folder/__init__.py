"""The folder of a run: its lock, its config, its checkpoints and their contents."""
