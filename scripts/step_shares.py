"""Where the time of a training step on CPU goes: the thread time of its operations by part, from a profile."""

import collections
import pathlib
import re
import tempfile

import jax

_PARTS = (  # first match in the path of an operation's scopes wins
  ("update", r"/update/"),
  ("reconstruction decoder", r"MaeDecoder|/csr/"),
  ("search decoder", r"SearchDecoder|/css/"),
  ("prototype head", r"PrototypeHead|/csm/"),
  ("encoder, backward", r"transpose\(jvp\(.*\.encode"),
  ("encoder, student", r"jvp\(.*\.encode"),
  ("encoder, teacher", r"\.encode"),
  ("views", r"/views/|/jvp\(vmap\("),
)


def measure_shares(program, run, steps: int = 3) -> dict[str, float]:
  """Returns milliseconds per step of thread time by part, largest first.

  Helpers that XLA's thread pools start inside an operation are not counted, its own thread is. Without the scopes of
  this package ("views", "update", as of older versions) these parts are found by their operations or count as "rest";
  fills and copies that the compiler adds for loops have no scope and are listed as such.

  Args:
    program: the compiled step.
    run: runs it once and waits.
    steps: profiled steps.
  """
  scopes = {}
  for line in program.as_text().splitlines():
    if found := re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = ", line):
      scope = re.search(r'op_name="([^"]*)"', line)
      scopes[found.group(1)] = scope.group(1) if scope else ""
  with tempfile.TemporaryDirectory() as folder:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 3
    jax.profiler.start_trace(folder, profiler_options=options)
    for _ in range(steps):
      run()
    jax.profiler.stop_trace()
    (path,) = pathlib.Path(folder).glob("**/*.xplane.pb")
    profile = jax.profiler.ProfileData.from_file(str(path))
    times = collections.Counter()
    for plane in profile.planes:
      for line in plane.lines:
        for name, nanoseconds in _own_times(line.events):
          if name in scopes:
            times[_part(name, scopes[name])] += nanoseconds / steps / 1e6
  return {part: round(milliseconds, 2) for part, milliseconds in times.most_common()}


def _part(name: str, scope: str) -> str:
  for part, pattern in _PARTS:
    if re.search(pattern, scope):
      return part
  if not scope and re.match("wrapped_broadcast|copy", name):
    return "fills and copies of loops"
  return "rest"


def _own_times(events):
  """Yields (operation or event, nanoseconds) of one thread without the events nested in each."""
  stack = []
  spans = sorted((e.start_ns, -e.duration_ns, dict(e.stats).get("hlo_op") or e.name) for e in events)
  for start, minus, name in spans:
    while stack and stack[-1][1] <= start:
      yield stack.pop()[::2]
    if stack:
      stack[-1][2] -= min(-minus, stack[-1][1] - start)
    stack.append([name, start - minus, -minus])
  while stack:
    yield stack.pop()[::2]
