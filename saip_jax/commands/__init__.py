"""The commands of `saip`: each module has `add_flags(parser)` and `run(options, settings)`.

`run` imports what it needs, so that `saip --help` is fast; it returns the exit status.
"""
