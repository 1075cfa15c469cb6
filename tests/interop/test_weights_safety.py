"""Files that are broken or malicious: nothing in them is run, and each ends with one line."""

import argparse
import json
import os
import sys
import zipfile

import pytest

from saip_jax import cli
from saip_jax.interop.importing import import_weights
from saip_jax.interop.tensor_files import read_tensors
from tests.support.toy_weights import add_toy_backbone, official_states, published, save_pth, timm_file

torch_only = pytest.mark.torch


@pytest.fixture(autouse=True)
def toy_backbone(monkeypatch):
  add_toy_backbone(monkeypatch)


@pytest.fixture
def torch():
  return pytest.importorskip("torch")


class Malicious:
  """A pickle of it creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def edited(path, edit):
  """Rewrites the entries of a PyTorch file."""
  with zipfile.ZipFile(path) as archive:
    entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in entries.items():
      archive.writestr(name, edit(name, content))


@torch_only
@pytest.mark.parametrize("where", ["top", "args", "deep"])
def test_no_pickled_object_is_run(tmp_path, torch, where):
  executed = tmp_path / "executed"
  evil = Malicious(executed)
  others = {"top": {"x": evil}, "args": {"args": argparse.Namespace(x=evil)}, "deep": {"x": {"y": [evil]}}}[where]
  path = save_pth(tmp_path / "evil.pth", published(official_states()[0], None), **others)
  with pytest.raises(ValueError, match="refused: .*posix.mkdir.*nothing was run"):
    import_weights(path, "saip", tmp_path / "W")
  assert not executed.exists() and not (tmp_path / "W").exists()
  torch.load(path, weights_only=False)  # the file does what it threatens
  assert executed.exists()


@torch_only
def test_what_claims_more_than_it_holds_is_refused(tmp_path, torch):
  def save(tensor=None):
    torch.save({"cls_token": torch.ones(2000) if tensor is None else tensor}, tmp_path / "a.pth")
    return tmp_path / "a.pth"

  for count in (1, 2):  # the pickle holds the size twice: of the storage, then of the tensor

    def edit(name, content):
      assert not name.endswith("data.pkl") or content.count(b"M\xd0\x07") == 2
      return content.replace(b"M\xd0\x07", b"J\xff\xff\xff\x7f", count)  # 2000 becomes 2**31 - 1

    edited(save(), edit)
    if count == 1:  # a storage is as long as the file, whatever it claims
      assert read_tensors(tmp_path / "a.pth")[0]["cls_token"].shape == (2000,)
      continue
    with pytest.raises(ValueError, match="not a complete PyTorch file"):
      read_tensors(tmp_path / "a.pth")
  with pytest.raises(ValueError, match="claim 4,000,000,000,000 bytes"):
    read_tensors(save(torch.ones(1).expand(10**12)))
  with pytest.raises(ValueError, match="not a plain tensor"):
    read_tensors(save(torch.eye(3).to_sparse()))


@torch_only
@pytest.mark.parametrize(
  "content, words",
  [
    (b"", "is empty"),
    (b"<!doctype html>", "truncated, or something else"),
    (b"\x80\x04cposix\nmkdir\n", "bare pickle"),
    ("cut", "truncated, or something else"),
    ("compressed", "entries are compressed"),
    ("program", "TorchScript program"),
    ("list", "holds a list"),
    ("zip", "no data.pkl"),
  ],
)
def test_a_broken_pth_is_one_line(tmp_path, torch, capsys, content, words):
  path = tmp_path / "a.pth"
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content == "zip":
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("a", "b")
  elif content == "program":
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
  elif content == "list":
    torch.save([torch.ones(2)], path)
  else:
    save_pth(path, published(official_states()[0], None))
  if content == "cut":
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  if content == "compressed":
    with zipfile.ZipFile(path) as archive:
      entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
      for name, data in entries.items():
        archive.writestr(name, data)
  refused(tmp_path, path, words, capsys)


def header(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
  text = json.dumps(entries).encode()
  return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
  return {"cls_token": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
  "content",
  [
    b"\x01",
    b"\xff" * 8 + b"{}",  # a header of 18 exabytes
    header({}, length=10**9),
    header(entry(), b"\0" * 7),  # cut
    header(entry(), b"\0" * 9),  # more than it declares
    header(entry(shape=(2**40,), offsets=(0, 2**42))),
    header(entry(shape=(2**40,)), b"\0" * 8),  # overflow
    header(entry(offsets=(8, 0)), b"\0" * 8),
    header(entry("F99"), b"\0" * 8),
    b"PK\x03\x04 a zip",
    "cut",
  ],
)
def test_a_broken_safetensors_file_is_one_line(tmp_path, capsys, content):
  path = tmp_path / "a.safetensors"
  if content == "cut":
    timm_file(path)
    content = path.read_bytes()[:-1]
  path.write_bytes(content)
  refused(tmp_path, path, "not a complete safetensors file", capsys)


def refused(tmp_path, path, words, capsys):
  """The command prints one line about the file and leaves nothing behind."""
  before = sorted(tmp_path.iterdir())
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}"]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip import: error: ") and error.count("\n") == 1, error
  assert words in error and str(path) in error, error
  assert sorted(tmp_path.iterdir()) == before


def test_a_pth_without_pytorch_names_what_to_install(tmp_path, monkeypatch):
  path = tmp_path / "a.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a/data.pkl", b"")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ValueError, match=r"pip install .saip-jax\[torch\]."):
    read_tensors(path)
