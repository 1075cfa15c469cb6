"""The commands of `saip`: each module has `EXAMPLE`, `add_flags(parser)` and `run(options, settings)`.

`EXAMPLE` is a command line that `--help` shows; {kind} in it is the kind of `saip prepare`.
`run` imports what it needs, so that `saip --help` is fast; it returns the exit status.
"""
