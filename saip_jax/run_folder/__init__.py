"""The folder of a run: who owns it, its settings, its checkpoints, what each checkpoint holds."""
