"""Finds the archives of a path: one file, a folder of them, or a pattern with braces and wildcards."""

import fnmatch
import glob
import itertools
import os
import re

from input_pipeline import storage

_WILDCARDS = re.compile(r"[{*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_ARCHIVES = 1_000_000


def absolute(path: str) -> str:
  """Returns an absolute path, or the URL; links are not resolved, as their names are the ones that users know."""
  return path.rstrip("/") if storage.is_remote(path) else os.path.abspath(os.path.expanduser(path))


def find_archives(path: str, name_ends: re.Pattern, setting: str) -> tuple[str, list[str]]:
  """Finds archives without opening them.

  Args:
    path: a file, a folder that is searched recursively, or a pattern such as `shard-{000..012}.tar` or `*.tar`; local
      or a URL.
    name_ends: pattern of the ends of archive names in a folder.
    setting: the option or setting that gave `path`, named in messages.

  Returns:
    The folder that holds all of them, and their names below it, sorted by bytes.

  Raises:
    ValueError: nothing is found, or an archive that the pattern names is missing.
  """
  whole = absolute(path)
  try:
    if not storage.exists(whole) and _WILDCARDS.search(whole):
      folder = whole[: _WILDCARDS.search(whole).start()].rpartition("/")[0]
      names = _matching(folder, whole, setting)
    elif not storage.exists(whole):
      raise ValueError(f"{setting}={path} does not exist; expected an archive, a folder of archives or a pattern")
    elif storage.is_folder(whole):
      folder, names = whole, [name for name in _files_below(whole) if name_ends.search(name.lower())]
    else:
      folder, _, name = whole.rpartition("/")
      names = [name]
  except OSError as error:
    raise ValueError(f"{setting}={path} cannot be listed: {error}") from error
  if not names:
    raise ValueError(f"{setting}={path} holds no archives; expected names like {name_ends.pattern}")
  return folder, sorted(names, key=os.fsencode)


def expand_braces(pattern: str) -> list[str]:
  """Expands braces as a shell does: `a{b,c}{08..10}` gives ab08 ab09 ab10 ac08 ac09 ac10.

  Raises:
    ValueError: more than a million results.
  """
  pieces = []
  for number, piece in enumerate(_BRACES.split(pattern)):  # every second piece is the inside of a pair of braces
    span = _RANGE.fullmatch(piece)
    if number % 2 == 0:
      pieces.append([piece])
    elif span:
      first, last = int(span[1]), int(span[2])
      width = len(span[1]) if len(span[1]) == len(span[2]) or span[1].startswith("0") else 0
      step = 1 if last >= first else -1
      if abs(last - first) >= _MAX_ARCHIVES:
        raise ValueError(f"the pattern {pattern} names more than {_MAX_ARCHIVES:,} archives; check its numbers")
      pieces.append([f"{k:0{width}d}" for k in range(first, last + step, step)])
    else:
      pieces.append(piece.split(",") if "," in piece else ["{" + piece + "}"])
  expanded = list(itertools.islice(map("".join, itertools.product(*pieces)), _MAX_ARCHIVES + 1))
  if len(expanded) > _MAX_ARCHIVES:
    raise ValueError(f"the pattern {pattern} names more than {_MAX_ARCHIVES:,} archives; check its numbers")
  return expanded


def _matching(folder: str, pattern: str, setting: str) -> list[str]:
  """Returns the names below a folder that match a pattern."""
  patterns = expand_braces(pattern)
  plain = {p for p in patterns if not glob.has_magic(p)}
  if storage.is_remote(pattern):
    there = {f"{folder}/{name}" for name in _files_below(folder)}
  else:
    there = {p for p in plain if os.path.isfile(p)}
    there.update(p for wild in patterns if wild not in plain for p in glob.iglob(wild) if os.path.isfile(p))
  missing = sorted(plain - there)
  if missing:
    raise ValueError(
      f"{setting}={pattern} names {len(plain)} archives and {len(missing)} of them are missing, first {missing[0]}"
    )
  found = {p for p in there if p in plain or any(_matches(p, wild) for wild in patterns if wild not in plain)}
  if not found:
    raise ValueError(f"{setting}={pattern} matches no file")
  return [p[len(folder) + 1 :] for p in found]


def _matches(path: str, pattern: str) -> bool:
  """Returns whether a path matches; wildcards match within one folder, as in a shell."""
  parts, wild = path.split("/"), pattern.split("/")
  return len(parts) == len(wild) and all(map(fnmatch.fnmatchcase, parts, wild))


def _files_below(folder: str) -> list[str]:
  """Returns the names of the files below a folder, except hidden ones."""
  if storage.is_remote(folder):
    names = [name for name, _ in storage.list_files(folder)]
  else:

    def refuse(error: OSError):
      raise error

    names = [
      os.path.relpath(os.path.join(below, name), folder)
      for below, _, files in os.walk(folder, onerror=refuse)
      for name in files
    ]
  return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
