"""Weights that `saip export` opens for any checkpoint."""

import pytest

from saip_jax.interop import export
from tests.support.trained_weights import trained_weights


@pytest.fixture
def weights():
  return trained_weights()


@pytest.fixture
def checkpoint(weights, monkeypatch):
  """Makes the command open these weights for any checkpoint."""
  monkeypatch.setattr(export, "open_weights", lambda path: weights)
