"""Flag types and help texts that several commands share."""

import argparse
from collections.abc import Callable

RECIPE_HELP = "recipe: a Python file, or a name that saip recipes lists, such as {0}"


def local_path_flag(text: str) -> str:
  """Returns a path; a URL is an error where only files of this machine can be read or written."""
  from input_pipeline.storage import NO_URL, is_url

  if is_url(text):
    raise argparse.ArgumentTypeError(f"{text} is {NO_URL}")
  return text


def place_flag(text: str) -> str:
  """Returns a local path or a URL, of a run, weights or an output."""
  from input_pipeline.storage import as_place

  try:
    as_place(text, "")
  except ValueError as e:
    raise argparse.ArgumentTypeError(str(e).lstrip("=")) from None
  return text


def size_flag(text: str) -> tuple[int, int]:
  """Returns (height, width) of text like "256x128"."""
  try:
    height, width = (int(part) for part in text.split("x"))
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r} is not a size; write height x width: 256x128") from None
  return height, width


def numbers_flag(count: int) -> Callable[[str], tuple[float, ...]]:
  """Returns a flag type for `count` numbers separated by commas."""

  def read(text: str) -> tuple[float, ...]:
    try:
      numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
      numbers = ()
    if len(numbers) != count:
      raise argparse.ArgumentTypeError(f"{text!r}: expected {count} numbers separated by commas")
    return numbers

  return read
