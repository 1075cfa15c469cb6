"""Scenes: the photos that persons are pasted into, stored as pixels that need no decoding."""

import os
import sys

from input_pipeline import storage
from input_pipeline.prepare.prepare import needed_bytes, prepare_dataset, room_for
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.prepared import META
from input_pipeline.sources.containers.array_record import ArrayRecordSource
from input_pipeline.sources.containers.folder import FolderSource

_SETTING = "data.scene_path"


def open_scenes(path: str | os.PathLike, canvas_hw: tuple[int, int], cache_dir: str | os.PathLike) -> ArrayRecordSource:
  """Opens the scenes of a run, and prepares them first if needed.

  A photo of 12 megapixels takes a hundred times as long to decode as a crop, so scenes are prepared once.

  Args:
    path: a set made by `saip prepare ... --scenes`, or a folder of photos, which is prepared into the user's cache on
      first use (`data.scene_path`).
    canvas_hw: the size in pixels that they are shrunk to.
    cache_dir: a folder of the run, for the index of the photos.

  Returns:
    The prepared scenes.

  Raises:
    ValueError: no such folder, no readable photo, or no room in the cache; one line that names the setting.
  """
  root = storage.normalized(path)
  if storage.exists(f"{root}/{META}"):
    return ArrayRecordSource(root, _SETTING)
  photos = FolderSource(root, cache_dir, _SETTING)
  identity = photos.identity
  out = os.path.join(
    storage.cache_folder(), f"scenes-{identity['name']}-{identity['digest']}-{canvas_hw[0]}x{canvas_hw[1]}"
  )
  request = PrepareRequest("folder", root, scene_hw=tuple(canvas_hw))
  if not os.path.exists(os.path.join(out, META)):
    needed, room = needed_bytes(request), room_for(out)
    if needed > room:
      raise ValueError(
        f"{_SETTING}={path}: its {len(photos):,} photos take {needed / 1e9:.1f} GB as pixels of {canvas_hw[0]}x"
        f"{canvas_hw[1]}, and {storage.cache_folder()} has room for {room / 1e9:.1f} GB; set SAIP_CACHE to a larger "
        f"disk, or prepare some of them: `saip prepare folder --path={path} --scenes --subset=FILE --out=DIR`"
      )
    print(f"preparing {len(photos):,} scenes in {out} (once; elsewhere: set SAIP_CACHE)", file=sys.stderr, flush=True)
    try:
      prepare_dataset(request, out)
    except ValueError as error:
      raise ValueError(f"{_SETTING}={path} cannot be prepared: {error}") from error
  return ArrayRecordSource(out, _SETTING)
