"""What the tests of compilation share."""

import pytest

from saip_jax.methods import METHODS
from tests.support.toy_method import Toy, toy_recipe


@pytest.fixture
def toy_config(monkeypatch, tmp_path):
  """The flag of a recipe whose step compiles within seconds."""
  monkeypatch.setitem(METHODS, "toy", Toy)
  path = tmp_path / "toy.py"
  path.write_text(f"def get_config():\n  return {toy_recipe()!r}\n")
  return f"--config={path}"
