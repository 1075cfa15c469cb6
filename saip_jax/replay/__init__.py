"""Recorded steps of the published code of every method, run here and compared number by number.

A file holds weights, inputs, random draws and results of one step of a small instance, under the names of the published
code.
"""

from collections.abc import Callable

from saip_jax.replay import croco, dino, hcmoco, masked, saip
from saip_jax.replay.recording import Check, Recording

_REPLAYS: dict[str, Callable[[Recording], None]] = {
  "saip": saip.replay_saip,
  "mae": masked.replay_mae,
  "hap": masked.replay_hap,
  "dino": dino.replay_dino,
  "croco": croco.replay_croco,
  "hcmoco": hcmoco.replay_hcmoco,
}


def replay(path: str) -> Recording:
  """Runs the recorded step of a file in float32 at highest precision.

  Args:
    path: a fixture (.npz) with `meta`, or `config` for SAIP, as JSON: the method and its sizes.

  Returns:
    The recording with its checks; `Recording.left` names the results that no check compares.

  Raises:
    ValueError: an unknown method, or arrays that do not fit its sizes.
  """
  recording = Recording(path)
  if recording.method not in _REPLAYS:
    raise ValueError(f"its method is {recording.method!r}: expected one of {', '.join(_REPLAYS)}")
  _REPLAYS[recording.method](recording)
  return recording


__all__ = ["Check", "Recording", "replay"]
