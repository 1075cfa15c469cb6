"""Weights in the published names: exact in both directions, strict about tensors that do not fit."""

import pathlib

import numpy as np
import pytest

from saip_jax.interop import saip as dialect
from saip_jax.interop.tables import to_torch

FIXTURE = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "saip_official_tiny.npz"


@pytest.fixture()
def state():
  with np.load(FIXTURE) as archive:
    return {k.removeprefix("student/"): v for k, v in archive.items() if k.startswith("student/")}


def test_round_trip_is_exact(state):
  back = to_torch(dialect.read(state), dialect.SAIP_ROWS, patch=16)
  unused = {"csm_decoder.decoder_norm.weight", "csm_decoder.decoder_norm.bias", "csm_decoder.last_layer.weight_g"}
  assert set(state) - set(back) == unused
  for name, value in back.items():
    np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_everything_that_does_not_fit_is_listed_at_once(state):
  del state["backbone.norm.weight"], state["css_decoder.kernel_pred.bias"]
  state["head.weight"] = np.zeros(3)
  with pytest.raises(ValueError) as error:
    dialect.read(state)
  for name in ("backbone.norm.weight", "css_decoder.kernel_pred.bias", "head.weight"):
    assert name in str(error.value)


def test_a_hole_in_the_blocks_is_found(state):
  for name in [n for n in state if n.startswith("backbone.blocks.3.")]:
    del state[name]
  with pytest.raises(ValueError, match=r"missing \['backbone.blocks.3.norm1.weight'.*unexpected none"):
    dialect.read(state)


def test_unfrozen_gain_is_refused(state):
  state["csm_decoder.last_layer.weight_g"] = state["csm_decoder.last_layer.weight_g"] * 2
  with pytest.raises(ValueError, match="weight_g"):
    dialect.read(state)


def test_parameters_without_a_row_are_listed(state):
  tree = dialect.read(state)
  tree["backbone"]["register_token"] = np.zeros((1, 1, 24))
  with pytest.raises(ValueError, match="backbone/register_token"):
    to_torch(tree, dialect.SAIP_ROWS, patch=16)
