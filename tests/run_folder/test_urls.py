"""Paths and URLs: local copies of what is at a URL, and uploads of what was written."""

import pathlib
import threading
import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from input_pipeline import buckets, storage
from input_pipeline.storage import as_place
from saip_jax.run_folder import remote


@pytest.fixture
def bucket():
  """The URL of an empty folder in a bucket in memory."""
  return f"memory://{uuid.uuid4().hex}/folder"


def put(url, content=b"x"):
  storage.write_file(url, content)


@pytest.mark.parametrize(
  "given, place",
  [
    ("runs/demo", pathlib.Path("runs/demo")),
    ("gs://bucket/runs/demo/", "gs://bucket/runs/demo"),
    (pathlib.Path("s3://bucket/w"), "s3://bucket/w"),  # pathlib makes it s3:/bucket/w
    ("random:vit_nano", pathlib.Path("random:vit_nano")),
  ],
)
def test_a_place_is_a_path_or_a_url(given, place):
  assert as_place(given, "--workdir") == place


@pytest.mark.parametrize("url", ["ftp://host/w", "file:/w", "https://host/w", "gs://"])
def test_other_urls_are_refused_and_the_setting_is_named(url):
  with pytest.raises(ValueError, match="--workdir="):
    as_place(url, "--workdir")


def test_the_hub_is_not_written():
  assert as_place("hf://user/model", "--checkpoint") == "hf://user/model"
  with pytest.raises(ValueError, match="--out=hf://user/model: hf:// can only be read"):
    as_place("hf://user/model", "--out", writable=True)


def test_a_copy_follows_its_url(bucket):
  put(f"{bucket}/a.txt", b"one")
  put(f"{bucket}/below/b.txt", b"two")
  copy = remote.local(bucket)
  assert (copy / "a.txt").read_bytes() == b"one" and (copy / "below" / "b.txt").read_bytes() == b"two"
  put(f"{bucket}/a.txt", b"three")
  storage.remove(f"{bucket}/below/b.txt")
  assert remote.local(bucket) == copy
  assert (copy / "a.txt").read_bytes() == b"three" and not (copy / "below" / "b.txt").exists()
  assert remote.with_urls(f"{copy}/a.txt cannot be read") == f"{bucket}/a.txt cannot be read"


def test_what_has_not_changed_is_not_copied_again(bucket, monkeypatch):
  put(f"{bucket}/a.txt")
  remote.local(bucket)
  monkeypatch.setattr(buckets, "download", lambda url, path: pytest.fail(f"{url} is copied again"))
  remote.local(bucket)


def test_a_copy_of_a_run_has_its_newest_committed_checkpoint_alone(bucket):
  for name in ("config.json", "metrics.jsonl", "panels/1.png", "tensorboard/events", "profile/trace"):
    put(f"{bucket}/{name}", b"{}")
  for step, committed in ((2, True), (4, True), (6, False)):
    put(f"{bucket}/checkpoints/{step}/state/d", b"x")
    if committed:
      put(f"{bucket}/checkpoints/{step}/commit_success.txt")
  put(f"{bucket}/finetune/reid/checkpoints/9/commit_success.txt")
  copy = remote.local(bucket)
  # neither checkpoint is readable, so both committed ones were tried
  assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["2", "4"]
  assert (copy / "panels" / "1.png").exists()
  assert not any((copy / name).exists() for name in ("tensorboard", "profile", "finetune"))
  assert remote.local(f"{bucket}/checkpoints/2") == copy / "checkpoints" / "2"


def test_a_file_comes_with_those_that_describe_it(bucket):
  for name in ("model.safetensors", "config.json", "photo.jpg", "extra/neck.safetensors", "run/config.json"):
    put(f"{bucket}/{name}")
  path = remote.local(f"{bucket}/model.safetensors")
  files = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
  assert files == {"config.json", "model.safetensors", "extra/neck.safetensors"}


def test_nothing_at_a_url_is_no_file(bucket):
  assert not remote.local(f"{bucket}/none").exists()


def test_outputs_appear_when_all_is_written_and_the_weights_last(bucket, monkeypatch):
  uploaded, upload = [], buckets.upload
  monkeypatch.setattr(buckets, "upload", lambda path, url: (uploaded.append(path.name), upload(path, url)))
  with remote.published(bucket, "--out") as folder:
    assert not folder.exists()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    (folder / "config.json").write_bytes(b"{}")
    assert not buckets.versions(bucket)
  assert uploaded == ["config.json", "model.safetensors"] and buckets.versions(bucket).keys() == set(uploaded)


def test_an_error_leaves_nothing_at_the_url(bucket):
  with pytest.raises(RuntimeError), remote.published(f"{bucket}/f.npz", "--out") as file:
    file.write_bytes(b"half")
    raise RuntimeError
  assert not buckets.versions(bucket)


def test_what_is_there_already_is_seen_and_replaced(bucket):
  put(f"{bucket}/old.txt", b"old")
  put(f"{bucket}/kept.txt", b"kept")
  with remote.published(bucket, "--out") as folder:
    assert sorted(path.name for path in folder.iterdir()) == ["kept.txt", "old.txt"]
    (folder / "old.txt").unlink()
    (folder / "new.txt").write_bytes(b"new")
  assert buckets.versions(bucket).keys() == {"kept.txt", "new.txt"}
  assert storage.read_file(f"{bucket}/kept.txt") == b"kept"


def test_a_file_takes_those_beside_it_along(bucket):
  with remote.published(f"{bucket}/f.npz", "--out") as file:
    file.write_bytes(b"features")
    file.with_name("f.skipped.txt").write_text("broken.jpg")
  assert buckets.versions(bucket).keys() == {"f.npz", "f.skipped.txt"}


def test_lines_are_added_and_none_is_lost(bucket, tmp_path):
  for place in (bucket, tmp_path):
    remote.append_line(place, "scores.jsonl", "1")
    remote.append_line(place, "scores.jsonl", "2")
  assert storage.read_file(f"{bucket}/scores.jsonl") == (tmp_path / "scores.jsonl").read_bytes() == b"1\n2\n"


def test_a_bucket_that_does_not_answer_is_given_up(monkeypatch):
  monkeypatch.setattr(remote, "PATIENCE_S", 0.2)
  with pytest.raises(OSError, match="gs://b/w did not answer within 0.2 s"):
    remote.reachable("gs://b/w", threading.Event().wait)


def test_what_fails_for_a_moment_is_tried_again_and_rights_are_not(monkeypatch):
  calls = []

  def fail_twice():
    calls.append(None)
    if len(calls) < 3:
      raise OSError("connection reset")
    return "done"

  assert remote.retried("gs://b/w", fail_twice) == "done" and len(calls) == 3
  calls.clear()

  def forbidden():
    calls.append(None)
    raise OSError("Forbidden: 403")

  with pytest.raises(OSError, match="gs://b/w: Forbidden"):
    remote.retried("gs://b/w", forbidden)
  assert len(calls) == 1


class HubInMemory(MemoryFileSystem):
  """Stands for the Hub's file system, which needs its servers."""

  protocol = "hf"
  store: dict = {}
  pseudo_dirs = [""]

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(path.removeprefix("hf:/").replace("memory:/", ""))


def test_weights_are_read_from_the_hub():
  fsspec.register_implementation("hf", HubInMemory, clobber=True)
  storage.write_file("hf://user/model/model.safetensors", b"weights")
  storage.write_file("hf://user/model/config.json", b"{}")
  copy = remote.local("hf://user/model")
  assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model.safetensors"]
  assert remote.with_urls(str(copy)) == "hf://user/model"
