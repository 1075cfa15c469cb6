"""Recorded steps of the published code of every method, run again here and compared number by number.

A file holds weights, inputs, random draws and results of one step of a small instance; what it is called in there is
what the published code calls it.
"""

from collections.abc import Callable

from saip_jax.replay import croco, dino, hcmoco, masked, saip
from saip_jax.replay.recording import Check, Recording

_REPLAYS: dict[str, Callable[[Recording], None]] = {
  "saip": saip.replay,
  "mae": masked.replay_mae,
  "hap": masked.replay_hap,
  "dino": dino.replay,
  "croco": croco.replay,
  "hcmoco": hcmoco.replay,
}


def replay(path: str) -> Recording:
  """Runs the recorded step of a file in float32 at highest precision.

  Args:
    path: a fixture (.npz) with `meta`, or `config` for SAIP, as JSON: which method, of which sizes.

  Returns:
    The recording with its checks; `Recording.left` names the results that none compares.

  Raises:
    ValueError: a method that is not known, or arrays that do not fit its sizes.
  """
  recording = Recording(path)
  if recording.method not in _REPLAYS:
    raise ValueError(f"its method is {recording.method!r}: expected one of {', '.join(_REPLAYS)}")
  _REPLAYS[recording.method](recording)
  return recording


__all__ = ["Check", "Recording", "replay"]
