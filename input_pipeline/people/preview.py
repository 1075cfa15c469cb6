"""Contact sheets of a set: its first images as they are, and some of them under their labels.

Labels are drawn on images enlarged by whole factors without interpolation, so that half a pixel of misalignment is
visible.
"""

import os
import pathlib

import cv2
import numpy as np

from input_pipeline.body import COCO_JOINTS, COCO_LIMBS
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.people.picture import Picture
from input_pipeline.people.spec import SetSpec, group_size

MOST_PICTURES = 1000

_SHEET_WIDTH, _GAP = 2048, 4
_SMALL_HEIGHT = 64  # rows at which crops must still be recognizable as people
_LABELED = {"crops": 6, "views": 4, "clips": 8, "scenes": 3}  # images on the second sheet
_LABELED_HEIGHT = 600  # rows of an enlarged image on the second sheet, at least
_LABEL_SHEET_WIDTH = 2400
_LINE_HEIGHT, _FONT_SIZE = 18, 0.45

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates

_PAPER, _INK = (24, 24, 24), (230, 230, 230)
_LEFT, _RIGHT, _MIDDLE = (255, 140, 0), (0, 190, 255), (235, 235, 235)
_FULL_BOX, _VISIBLE_BOX = (255, 230, 0), (60, 255, 60)

# The colors of the 20 classes in LIP's own tools.
_LIP_PALETTE = np.array(
  [
    (0, 0, 0),
    (128, 0, 0),
    (255, 0, 0),
    (0, 85, 0),
    (170, 0, 51),
    (255, 85, 0),
    (0, 0, 85),
    (0, 119, 221),
    (85, 85, 0),
    (0, 85, 85),
    (85, 51, 0),
    (52, 86, 128),
    (0, 128, 0),
    (0, 0, 255),
    (51, 170, 221),
    (0, 255, 255),
    (85, 255, 170),
    (170, 255, 85),
    (255, 255, 0),
    (255, 170, 0),
  ],
  np.uint8,
)


def draw_preview(path: str | os.PathLike, spec: SetSpec, count: int) -> list[pathlib.Path]:
  """Draws the first images of a set on one sheet, and the first few of them with their labels on another.

  The second sheet is beside the first, with `_labels` in its name. Existing sheets of these names are replaced.

  Args:
    path: the first sheet, a .png file in a folder that exists.
    spec: the set.
    count: number of images on the first sheet.

  Returns:
    The two files.

  Raises:
    ValueError: a path that cannot be written, or an impossible count.
  """
  sheet = pathlib.Path(path).expanduser()
  paths = [sheet, sheet.with_name(f"{sheet.stem}_labels.png")]
  if not 1 <= count <= MOST_PICTURES:
    raise ValueError(f"count={count}: a sheet shows 1 to {MOST_PICTURES} images; set --count")
  _check_can_become_files(paths)
  images, labeled = [], []
  for index in range(count):
    picture = render_picture(spec, index)
    images.append(picture.image_u8)
    if index < _LABELED[spec.composition]:
      labeled.append(_draw_labels(picture))
  _write_all(paths, [_picture_sheet(images, spec.composition), _label_sheet(labeled)])
  return paths


def _check_can_become_files(paths: list[pathlib.Path]) -> None:
  if paths[0].suffix.lower() != ".png":
    raise ValueError(f"{paths[0]} cannot be a sheet: expected a name that ends in .png; set --preview=sheet.png")
  for path in paths:
    if path.is_dir():
      raise ValueError(f"{path} is a folder; --preview expects a file that can be written, e.g. {path / 'sheet.png'}")
  folder = paths[0].parent
  if not (folder.is_dir() and os.access(folder, os.W_OK)):
    raise ValueError(f"{paths[0]} cannot be written: {folder} is not a writable folder; change --preview")


def _write_all(paths: list[pathlib.Path], images: list[np.ndarray]) -> None:
  """Writes RGB images as PNG files: all of them complete, or none."""
  unfinished = [path.with_name(f".{path.name}.{os.getpid()}") for path in paths]
  try:
    for path, image in zip(unfinished, images):
      _, png = cv2.imencode(".png", image[..., ::-1])
      path.write_bytes(png.tobytes())
    for source, path in zip(unfinished, paths):
      os.replace(source, path)
  except OSError as error:
    raise ValueError(f"{paths[0]} cannot be written: {error}; change --preview") from error
  finally:
    for path in unfinished:
      path.unlink(missing_ok=True)


def _picture_sheet(images: list[np.ndarray], composition: str) -> np.ndarray:
  height, width = images[0].shape[:2]
  columns = max(1, (_SHEET_WIDTH + _GAP) // (width + _GAP))
  columns = max(1, columns // group_size(composition)) * group_size(composition)  # groups stay in one row
  sheet = _grid(images, columns)
  if composition != "crops":
    return sheet
  small_wh = max(1, round(_SMALL_HEIGHT * width / height)), _SMALL_HEIGHT
  small = [_enlarged(cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA), 2) for image in images]
  return _stacked([sheet, _grid(small, max(1, (sheet.shape[1] + _GAP) // (small[0].shape[1] + _GAP)))])


def _label_sheet(cells: list[np.ndarray]) -> np.ndarray:
  columns = max(1, _LABEL_SHEET_WIDTH // cells[0].shape[1])
  tallest = max(cell.shape[0] for cell in cells)
  cells = [
    cv2.copyMakeBorder(cell, 0, tallest - cell.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=_PAPER) for cell in cells
  ]
  sheet = _grid(cells, columns)
  return _stacked([sheet, _legend(sheet.shape[1])])


def _draw_labels(picture: Picture) -> np.ndarray:
  """Draws an image three times, under its keypoints and boxes, its parts and its depth, above its labels in words."""
  factor = -(-_LABELED_HEIGHT // picture.image_u8.shape[0])
  image = _enlarged(picture.image_u8, factor)
  points = image.copy()
  for person in picture.annotations["people"]:
    _draw_person(points, person, factor)
  parts = _LIP_PALETTE[_enlarged(picture.parts, factor)]
  covered = _enlarged(picture.instances, factor)[..., None] > 0
  parts = np.where(covered, 0.75 * parts + 0.25 * image, 0.4 * image).astype(np.uint8)
  depth = _enlarged(_depth_colors(picture.depth), factor)
  outline = _outline(_enlarged(picture.instances, factor))
  parts[outline], depth[outline] = 255, 255
  panels = _grid([points, parts, depth], 3)
  return _stacked([panels, _text(_lines_about(picture), panels.shape[1])])


def _lines_about(picture: Picture) -> list[str]:
  labels, solid = picture.annotations, picture.depth[picture.depth > 0]
  reach = f"depth {solid.min():.1f} to {solid.max():.1f} m" if solid.size else "nothing solid in sight"
  lines = [
    f"{labels['composition']} {labels['index']}   {labels['split']}   group {labels['group']}   camera "
    f"{labels['camera']}   {labels['time']:.3f} s   {reach}"
  ]
  return lines + [
    f"{number}: identity {person['identity']}, {person['facing']}. {person['caption']}"
    for number, person in enumerate(labels["people"], 1)
  ]


def _draw_person(canvas: np.ndarray, person: dict, factor: int) -> None:
  """Draws keypoints (filled if visible, hollow if hidden), limbs and boxes on an image enlarged `factor` times."""
  for name, color, thickness in (("box_full", _FULL_BOX, 3), ("box_visible", _VISIBLE_BOX, 1)):
    x, y, w, h = person[name]
    if w > 0 and h > 0:
      corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
      cv2.polylines(
        canvas, [np.array([_place(corner, factor) for corner in corners])], True, color, thickness, cv2.LINE_AA, _SHIFT
      )
  joints = {name: point for name, point in zip(COCO_JOINTS, person["keypoints"]) if point[2] > 0}
  radius = float(np.clip(person["box_full"][3] * factor / 150, 1.5, 5))
  for first, second in COCO_LIMBS:
    if first in joints and second in joints:
      cv2.line(
        canvas,
        _place(joints[first], factor),
        _place(joints[second], factor),
        _side_color(first, second),
        1 if radius < 3 else 2,
        cv2.LINE_AA,
        _SHIFT,
      )
  for name, point in joints.items():
    center, size = _place(point, factor), round(radius * 2**_SHIFT)
    if point[2] == 2:
      cv2.circle(canvas, center, size, _side_color(name, name), -1, cv2.LINE_AA, _SHIFT)
      cv2.circle(canvas, center, size, (0, 0, 0), 1, cv2.LINE_AA, _SHIFT)
    else:
      cv2.circle(canvas, center, size, _side_color(name, name), 1, cv2.LINE_AA, _SHIFT)


def _place(point, factor: int) -> tuple[int, int]:
  """Maps the image's pixel frame to OpenCV's coordinates on the enlarged image, where pixel centers are integers."""
  x, y = (round((float(value) * factor - 0.5) * 2**_SHIFT) for value in point[:2])
  return x, y


def _side_color(first: str, second: str) -> tuple[int, int, int]:
  sides = {name.partition("_")[0] for name in (first, second)}
  return {"left": _LEFT, "right": _RIGHT}.get(sides.pop(), _MIDDLE) if len(sides) == 1 else _MIDDLE


def _depth_colors(depth: np.ndarray) -> np.ndarray:
  """Colors depth from red (near) to blue (far), linear in 1 / depth, black without a surface: (H, W) -> (H, W, 3)."""
  solid = depth > 0
  nearness = np.zeros(depth.shape, np.float32)
  nearness[solid] = 1 / depth[solid]
  low, high = np.percentile(nearness[solid], (1, 99)) if solid.any() else (0, 1)
  levels = np.clip((nearness - low) / max(high - low, 1e-6), 0, 1) * 255
  colors = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
  return np.where(solid[..., None], colors, 0).astype(np.uint8)


def _outline(instances: np.ndarray) -> np.ndarray:
  """Returns (H, W) bool: pixels below or to the right of a pixel of another person, or of none."""
  outline = np.zeros(instances.shape, bool)
  outline[1:] |= instances[1:] != instances[:-1]
  outline[:, 1:] |= instances[:, 1:] != instances[:, :-1]
  return outline


def _legend(width: int) -> np.ndarray:
  """Draws the colors and names of the classes, and the meaning of the lines."""
  entries = [(tuple(int(c) for c in color), name) for color, name in zip(_LIP_PALETTE[1:], LIP_PARTS[1:])]
  entries += [(_LEFT, "left limbs"), (_RIGHT, "right limbs"), (_FULL_BOX, "full box"), (_VISIBLE_BOX, "visible box")]
  columns = max(1, width // 130)
  legend = np.full((-(-len(entries) // columns) * _LINE_HEIGHT, width, 3), _PAPER, np.uint8)
  for number, (color, name) in enumerate(entries):
    x, y = number % columns * 130, number // columns * _LINE_HEIGHT
    legend[y + 4 : y + 15, x + 2 : x + 16] = color
    _write(legend, name, (x + 20, y + 14))
  return legend


def _text(lines: list[str], width: int) -> np.ndarray:
  """Draws lines of words, wrapped at the width."""
  rows = []
  for line in lines:
    row = ""
    for word in line.split(" "):
      longer = f"{row} {word}" if row else word
      if row and cv2.getTextSize(longer, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SIZE, 1)[0][0] > width - 8:
        rows.append(row)
        row = f"   {word}"
      else:
        row = longer
    rows.append(row)
  block = np.full((len(rows) * _LINE_HEIGHT + _GAP, width, 3), _PAPER, np.uint8)
  for number, row in enumerate(rows):
    _write(block, row, (4, (number + 1) * _LINE_HEIGHT - 4))
  return block


def _write(canvas: np.ndarray, words: str, left_bottom: tuple[int, int]) -> None:
  cv2.putText(canvas, words, left_bottom, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SIZE, _INK, 1, cv2.LINE_AA)


def _enlarged(image: np.ndarray, factor: int) -> np.ndarray:
  return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)


def _grid(images: list[np.ndarray], columns: int) -> np.ndarray:
  """Arranges images of one size in rows, with gaps between them."""
  height, width = images[0].shape[:2]
  columns = min(columns, len(images))
  rows = -(-len(images) // columns)
  sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
  for number, image in enumerate(images):
    top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
    sheet[top : top + height, left : left + width] = image
  return sheet


def _stacked(blocks: list[np.ndarray]) -> np.ndarray:
  """Stacks blocks below each other, left-aligned, with gaps between them."""
  width = max(block.shape[1] for block in blocks)
  blocks = [
    cv2.copyMakeBorder(block, 0, _GAP, 0, width - block.shape[1], cv2.BORDER_CONSTANT, value=_PAPER) for block in blocks
  ]
  return np.concatenate(blocks)
