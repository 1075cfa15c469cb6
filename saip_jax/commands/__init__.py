"""The commands of `saip`: each module has `EXAMPLE`, `PAGE`, `add_flags(parser)` and `run(options, settings)`.

`EXAMPLE` is a command line that `--help` shows; {kind} in it is the kind of `saip prepare`.
`PAGE` is the page of the documentation that `--help` and errors name: a path in docs/ without its ending.
`run` imports what it needs, so that `saip --help` is fast; it returns the exit status.
"""
