"""Servers of the real protocols of buckets on this machine: Google Cloud Storage, S3, and a network that drops."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

GCS_BUCKET = S3_BUCKET = "bucket-of-tests"

# The emulator leaves out a header of Google's that TensorStore knows versions by.
_GCS = """
import sys
from gcp_storage_emulator.handlers import objects

download = objects.download

def with_generation(request, response, storage, *args, **kwargs):
  download(request, response, storage, *args, **kwargs)
  if response.status < 300:
    found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
    response["x-goog-generation"] = found["generation"]

objects.download = with_generation
from gcp_storage_emulator.server import create_server

create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).run()
"""


def free_port() -> int:
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


@contextlib.contextmanager
def gcs_server() -> Iterator[int]:
  """Yields the port of a Google Cloud Storage emulator with the bucket `GCS_BUCKET`."""
  port = free_port()
  with _serving([sys.executable, "-c", _GCS, str(port), GCS_BUCKET], port):
    yield port


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
  """Yields the port of moto's S3 server with the bucket `S3_BUCKET`."""
  port = free_port()
  with _serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys).create_bucket(Bucket=S3_BUCKET)
    yield port


def gcs_variables(port: int) -> dict[str, str]:
  """Returns the environment in which gs:// is the emulator."""
  url = f"http://127.0.0.1:{port}"
  return {
    "STORAGE_EMULATOR_HOST": url,
    "TENSORSTORE_GCS_HTTP_URL": url,
    "GOOGLE_CLOUD_PROJECT": "test",
    "NO_GCE_CHECK": "true",
  }


def s3_variables(port: int) -> dict[str, str]:
  """Returns the environment in which s3:// is the server."""
  return {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
  }


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  try:
    deadline = time.monotonic() + 60
    while True:
      try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        break
      except OSError:
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{command} did not listen within 60 s"
        time.sleep(0.1)
    yield
  finally:
    process.kill()
    process.wait()


class Network:
  """A way to a server that can be cut.

  Attributes:
    port: the port of this way.
  """

  def __init__(self, to_port: int):
    self._to, self._cut, self._open = to_port, False, set()
    self._listener = socket.create_server(("127.0.0.1", 0))
    self.port = self._listener.getsockname()[1]
    threading.Thread(target=self._accept, daemon=True).start()

  def cut(self) -> None:
    """Drops all connections and refuses new ones."""
    self._cut = True
    for connection in list(self._open):
      with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

  def mend(self) -> None:
    self._cut = False

  def close(self) -> None:
    self._listener.close()

  def _accept(self) -> None:
    while True:
      try:
        near, _ = self._listener.accept()
      except OSError:
        return
      if self._cut:
        near.close()
      else:
        threading.Thread(target=self._carry, args=(near,), daemon=True).start()

  def _carry(self, near: socket.socket) -> None:
    with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self._to)) as far:
      self._open |= {near, far}
      other = {near: far, far: near}
      while True:
        for source in select.select([near, far], [], [])[0]:
          data = source.recv(1 << 16)
          if not data:
            return
          other[source].sendall(data)
    self._open -= {near}


def clean_environment() -> dict[str, str]:
  """Returns the environment of this process without variables of real clouds."""
  return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOOGLE_", "STORAGE_", "TENSORSTORE_GCS"))}
