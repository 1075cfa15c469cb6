"""File systems of URLs through fsspec: gs://, s3://, hf:// and others."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator

import fsspec
from fsspec.config import conf

_CLOUD = 'pip install "saip-jax[cloud]"'
_VERSION_KEYS = ("generation", "ETag", "etag", "blob_id", "LastModified", "mtime", "created")

for _library in ("gcsfs", "s3fs", "google.auth"):  # their errors are raised here, as one line each
  logging.getLogger(_library).setLevel(logging.CRITICAL)
for _protocol in ("gcs", "gs", "s3"):  # several processes write to a bucket: no process may remember what it listed
  conf.setdefault(_protocol, {}).setdefault("use_listings_cache", False)


@contextlib.contextmanager
def file_system(url: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
  """Yields the file system of a URL and the path in it; any error of the block becomes an OSError."""
  try:
    yield fsspec.core.url_to_fs(url)
  except OSError:
    raise
  except ImportError as error:
    raise OSError(
      f"{url.split('://')[0]}:// cannot be read here: {error}; {_CLOUD} installs the packages it needs"
    ) from error
  except ValueError as error:  # a scheme that fsspec does not know
    raise OSError(f"{url}: {error}") from error
  except Exception as error:  # each kind of bucket has errors of its own
    raise OSError(f"{url}: {type(error).__name__}: {error}") from error


def listing(url: str) -> dict[str, dict]:
  """Returns the name below a URL of every file there -> what its file system knows of it, sorted; raises OSError."""
  with file_system(url) as (files, key):
    found = files.find(key, detail=True)
    return {name[len(key) :].lstrip("/"): info for name, info in sorted(found.items())}


def versions(url: str) -> dict[str, str]:
  """Returns the name below a URL of every file there -> text that changes with its content; {} if there is none.

  The file of the URL itself, if it is one, has the name "".
  """
  try:
    found = listing(url)
  except FileNotFoundError:
    return {}
  stamp = lambda info: "/".join(str(info[name]) for name in ("size", *_VERSION_KEYS) if name in info)
  return {name: stamp(info) for name, info in found.items()}


def download(url: str, path: pathlib.Path) -> None:
  """Copies the file of a URL to a local path, whose folder is made; raises OSError."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with file_system(url) as (files, key):
    files.get_file(key, str(path))


def upload(path: pathlib.Path, url: str) -> None:
  """Copies a local file to a URL, in whose bucket it appears whole or not at all; raises OSError."""
  with file_system(url) as (files, key):
    files.put_file(str(path), key)


def remove_tree(url: str) -> None:
  """Removes every file below a URL; raises OSError."""
  with file_system(url) as (files, key):
    found = files.find(key)
    if found:
      files.rm(found)
