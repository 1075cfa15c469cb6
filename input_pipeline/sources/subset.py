"""Reproducible subsets of large data sets, as LUP1M: a list of names, the same on every machine."""

import array
import hashlib
import sys
from collections.abc import Iterable, Iterator

import numpy as np
from tqdm import tqdm

from input_pipeline import storage
from input_pipeline.names import ESCAPED
from input_pipeline.source import ImageSource
from input_pipeline.sources.spelling import ONLY_SPELLING, grouped, spelling

_HEADER = "# "
_RULE = 'chosen: the names with the smallest blake2b (8 bytes, big endian) of "SEED", a zero byte and the name'


def choose_subset(names: Iterable[bytes], count: int, seed: int) -> np.ndarray:
  """Chooses images by their names alone.

  The number of a name is a hash of (seed, name), and the names with the `count` smallest numbers are chosen. So the
  choice depends neither on the order of the data nor on any version; a smaller subset is part of every larger one with
  the same seed; and each missing image changes the choice of one image only.

  Args:
    names: the name of every image, e.g. `image_names(source)`; 4.18 million take half a minute and 70 MB.
    count: size of the subset.
    seed: another seed gives another subset.

  Returns:
    (count,) int64, the chosen positions, ascending.

  Raises:
    ValueError: `count` is below 1 or there are fewer names.
  """
  if count < 1:
    raise ValueError(f"--subset={count}: expected 1 or more images")
  draws = array.array("Q")
  for name in names:
    draws.frombytes(_draw(name, seed))
  if sys.byteorder == "little":
    draws.byteswap()
  if count > len(draws):
    raise ValueError(f"--subset={count}: the data set has only {len(draws)} images")
  order = np.argsort(np.frombuffer(draws, np.uint64), kind="stable")
  return np.sort(order[:count])


def write_subset(path: str, source: ImageSource, count: int, seed: int) -> np.ndarray:
  """Chooses a subset and writes it as text: lines of "# " that describe it, then one name per line.

  Names are in the order of the source and in UTF-8; bytes that are no UTF-8 are kept. A backslash is written as two,
  and a line break as backslash and n or r, so that every name has one line.

  Args:
    path: the file, path or URL; replaced if it exists.
    source: the data set.
    count: size of the subset.
    seed: another seed gives another subset.

  Returns:
    (count,) int64, the chosen positions, ascending.

  Raises:
    ValueError: `count` is below 1 or there are fewer images, or the file cannot be written.
  """
  chosen = choose_subset(
    tqdm(image_names(source), total=len(source), unit=" names", desc="choosing", disable=None), count, seed
  )
  identity = source.identity
  header = (
    f"{count} of the {len(source)} images of {identity['source']} {identity['name']!r} (digest "
    f"{identity['digest']}), seed {seed}",
    _RULE.replace("SEED", str(seed)),
  )
  try:
    with storage.written_whole(path) as temporary, open(temporary, "wb") as file:
      file.writelines((_HEADER + line + "\n").encode("utf-8", ESCAPED) for line in header)
      file.writelines(_as_line(_encoded(source.name(i))) + b"\n" for i in chosen.tolist())
  except OSError as error:
    raise ValueError(
      f"the subset cannot be written to {path} ({error.strerror or error}); choose another --out"
    ) from error
  return chosen


def read_subset(path: str, source: ImageSource) -> np.ndarray:
  """Returns the positions of a written subset in a source, which may have another order and other images.

  Args:
    path: a file of `write_subset`, or any file with one name per line.
    source: the data set.

  Returns:
    (count,) int64, ascending. Names that the source only spells differently (see spelling.py) are found.

  Raises:
    ValueError: it cannot be read, holds no names, or the source lacks some of them.
  """
  try:
    lines = [_encoded(line) for line in storage.lines_of(storage.read_file(path))]
  except OSError as error:
    raise ValueError(f"the subset {path} cannot be read ({error.strerror or error})") from error
  wanted = {_as_name(line) for line in lines if line and not line.startswith(_HEADER.encode())}
  if not wanted:
    raise ValueError(f"the subset {path} holds no names; expected one per line, as saip doctor --subset writes them")
  found = np.fromiter((i for i, name in enumerate(image_names(source)) if name in wanted), np.int64)
  missing = wanted.difference(_encoded(source.name(i)) for i in found.tolist()) if len(found) < len(wanted) else set()
  missing = {name for name in missing if name.strip()}
  return np.sort(np.concatenate([found, _respelled(missing, wanted, path, source)])) if missing else found


def _respelled(missing: set[bytes], wanted: set[bytes], path: str, source: ImageSource) -> np.ndarray:
  """Returns the positions of the images that a list spells differently; raises ValueError if one is missing."""
  key = lambda name: spelling(name.decode("utf-8", "surrogateescape"))
  asked, alike = grouped(wanted, key), grouped(range(len(source)), lambda i: spelling(source.name(i)))
  meant = {name: alike.get(key(name), []) for name in sorted(missing)}
  lost = [name for name, places in meant.items() if len(places) != 1 or len(asked[key(name)]) != 1]
  if lost:
    differ = " and ".join(source.name(i) for i in meant[lost[0]][:2])
    cause = f"it differs from {differ} only in {ONLY_SPELLING}" if differ else "it was made for other data"
    raise ValueError(
      f"{len(lost)} of the {len(wanted)} names of the subset {path} are not in "
      f"{source.identity['name']!r}, first {lost[0].decode('utf-8', 'backslashreplace')!r}; {cause}"
    )
  return np.array([place for [place] in meant.values()], np.int64)


def image_names(source: ImageSource) -> Iterator[bytes]:
  """Returns the name of every image as bytes, in order."""
  return (_encoded(source.name(i)) for i in range(len(source)))


def _draw(name: bytes, seed: int) -> bytes:
  return hashlib.blake2b(b"%d\0%s" % (seed, name), digest_size=8).digest()


def _encoded(name: str) -> bytes:
  return name.encode("utf-8", "surrogateescape")


def _as_line(name: bytes) -> bytes:
  line = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
  return b"\\" + line if line.startswith(b"#") else line  # else it would look like a header


def _as_name(line: bytes) -> bytes:
  line = line[1:] if line.startswith(b"\\#") else line
  for escaped, plain in ((b"\\\\", b"\0"), (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\0", b"\\")):
    line = line.replace(escaped, plain)
  return line
