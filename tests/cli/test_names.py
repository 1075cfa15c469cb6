"""Names that are no UTF-8, in every output, whatever the locale."""

import ast
import io
import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

from input_pipeline.names import ESCAPED, shown, shown_error
from input_pipeline.storage import utf8_path
from saip_jax import cli
from saip_jax.run_folder.folder import claim_workdir
from tests.support.noise_pictures import encoded, noise
from tests.support.toy_method import train_toy

pytestmark = pytest.mark.compile

REPO = pathlib.Path(__file__).resolve().parents[2]


def test_bytes_that_are_no_text_are_escaped_as_doctor_does():
  assert shown("donn\udce9es/\u00e9 \u4eba\n.jpg") == "donn\\xe9es/\u00e9 \u4eba\\n.jpg"
  assert "\u00e9\udce9\ud800".encode("ascii", ESCAPED) == b"\\xe9\\xe9\\ud800"
  assert shown_error(FileNotFoundError(2, "No such file", "caf\udce9")) == "[Errno 2] No such file: 'caf\\xe9'"
  assert shown_error(ValueError("a\n  b\udcff")) == "a b\\xff" and shown_error(KeyError()) == "KeyError"
  assert shown("\udcc3\udca9") == "\u00e9" and shown("\ud800") == "\\ud800"  # UTF-8 as an ASCII locale sees it
  with pytest.raises(ValueError, match="--workdir=\u00e9: the locale .* LC_ALL=C.UTF-8"):
    utf8_path("\udcc3\udca9", "--workdir")
  with pytest.raises(UnicodeDecodeError):
    b"\xe9".decode("utf-8", ESCAPED)


def test_a_run_lists_damaged_images_of_any_name(tmp_path, capsys):
  damage = ["caf\udce9.jpg: a link", "\u4eba.jpg: cut", "two\nlines.jpg: cut"]
  for known in (damage[:1], damage):  # the list of an earlier start is kept
    train_toy(tmp_path, "total_steps=2", damage=known)
  listed = (tmp_path / "damaged_images.txt").read_bytes()
  assert listed == "caf\\xe9.jpg: a link\n\u4eba.jpg: cut\ntwo\\nlines.jpg: cut\n".encode()
  assert "3 images skipped" in (output := capsys.readouterr().out) and "caf\\xe9.jpg: a link" in output


def _tar(path, good=8):
  """Writes a tar of pictures and of a link whose name is Latin-1."""
  with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
    for i in range(good):
      data = encoded(noise(i, (64, 32)))
      member = tarfile.TarInfo(f"{i}.jpg")
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
    link = tarfile.TarInfo("caf\u00e9.jpg")
    link.type, link.linkname = tarfile.LNKTYPE, "0.jpg"
    archive.addfile(link)


@pytest.mark.parametrize(
  "locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=["utf8", "C"]
)
def test_a_prepared_set_lists_them_in_any_locale(tmp_path, locale):
  source = tmp_path / "donn\u00e9es"
  source.mkdir()
  _tar(source / "a.tar")
  command = [
    sys.executable,
    "-m",
    "saip_jax",
    "prepare",
    "webdataset",
    f"--path={source}",
    f"--out={tmp_path / 'out'}",
    "--processes=1",
  ]
  done = subprocess.run(command, capture_output=True, cwd=REPO, env=os.environ | locale)
  assert done.returncode == 0, done.stderr
  assert b"1 left out, listed in" in done.stdout
  assert (tmp_path / "out" / "left_out.txt").read_bytes().startswith(b"a.tar/caf\\xe9.jpg: ")


def test_a_message_with_such_a_name_is_one_line(capsys):
  assert cli.main(["doctor", "/nowhere/donn\udce9es"]) == 2
  error = capsys.readouterr().err
  assert "donn\\xe9es" in error and error.count("\n") == 1


@pytest.mark.parametrize(
  "write",
  [lambda out: claim_workdir(out, {}), lambda out: utf8_path(out / "below", "--workdir")],
  ids=["workdir", "below"],
)
def test_a_folder_that_no_library_can_write_into_is_refused_at_once(tmp_path, write):
  out = tmp_path / "r\udce9sultat"
  with pytest.raises(ValueError, match=r"=.*r\\xe9sultat.* no UTF-8.*rename it, or give a symbolic link"):
    write(out)
  assert not out.exists()
  out.mkdir()
  (tmp_path / "link").symlink_to(out)
  assert claim_workdir(tmp_path / "link" / "run", {}).path == tmp_path / "link" / "run"


def test_every_text_is_opened_with_an_encoding():
  """That of the locale is ASCII in containers and on clusters."""
  for path in sorted((*REPO.glob("saip_jax/**/*.py"), *REPO.glob("input_pipeline/**/*.py"))):
    for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
      method = call.func.attr if isinstance(call.func, ast.Attribute) else None
      name = call.func.id if isinstance(call.func, ast.Name) else method
      named = any(word.arg == "encoding" for word in call.keywords)
      where = f"{path}:{call.lineno}"
      if method == "write_text":
        assert named or len(call.args) > 1, where
      elif method == "read_text":
        assert named or call.args, where
      elif name == "open" and isinstance(call.func, ast.Name) or method == "open" and call.args:
        modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        modes = [mode for mode in modes if mode and set(mode) <= set("rwabx+t")]
        text = isinstance(call.func, ast.Name) and not modes or any("b" not in mode for mode in modes)
        assert named or not text or _opens_no_text(call), where


def _opens_no_text(call) -> bool:
  """Whether an `open` is of an archive or a data set."""
  return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in (
    "archive",
    "tarfile",
    "zipfile",
    "lmdb",
    "Image",
    "ts",
    "files",
    "os",
    "storage",
    "data",
    "self",
  )
