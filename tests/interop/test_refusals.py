"""Encoders that the ViTs here do not compute: one line that names what is missing."""

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.tensor_files import write_safetensors
from tests.support.toy_weights import add_toy_backbone, random_weights

ZEROS = np.zeros((24, 24), np.float32)


@pytest.fixture
def state(monkeypatch):
  add_toy_backbone(monkeypatch)
  return dict(DIALECTS["timm"].to_state(random_weights(teacher=False)))


def split_qkv(state, rows_of_keys: int):
  """Separate queries, keys and values, with fewer heads of keys and values."""
  for i in range(8):
    q, k, v = np.split(state.pop(f"blocks.{i}.attn.qkv.weight"), 3)
    del state[f"blocks.{i}.attn.qkv.bias"]
    parts = {"q_proj": q, "k_proj": k[:rows_of_keys], "v_proj": v[:rows_of_keys]}
    state |= {f"blocks.{i}.attn.{name}.weight": a for name, a in parts.items()}
  return state


@pytest.mark.parametrize(
  "change, words",
  [
    (lambda s: split_qkv(s, 8), "grouped queries (GQA)"),
    (lambda s: s | {"blocks.0.mlp.w12.weight": ZEROS}, "gated MLP (SwiGLU)"),
    (lambda s: s | {"blocks.0.mlp.w3.weight": ZEROS}, "gated MLP (SwiGLU)"),
    (lambda s: s | {"blocks.0.mlp.gate_proj.weight": ZEROS}, "gated MLP (SwiGLU)"),
    (lambda s: s | {"attn_pool.latent": ZEROS}, "attention pooling"),
    (lambda s: s | {"blocks.0.attn.q_norm.weight": ZEROS[0]}, "norms of queries and keys"),
    (lambda s: s | {"blocks.0.attn.norm.weight": ZEROS[0]}, "norms of queries and keys, or of mixed values"),
    (lambda s: s | {"norm_pre.weight": ZEROS[0]}, "a norm of the tokens before the first block, as in CLIP"),
    (lambda s: s | {"patch_embed.conv.0.weight": ZEROS}, "a stem of convolutions"),
    (lambda s: s | {"blocks.0.attn.wq.weight": ZEROS, "storage_tokens": ZEROS[None]}, "Sapiens2"),
    (lambda s: s | {"dist_token": ZEROS[None, :1]}, "distillation token"),
    (lambda s: s | {"blocks.0.attn.rel_pos_h": ZEROS}, "relative positions"),
    # Files in which no encoder of the known names is found.
    (lambda s: {"visual.conv1.weight": ZEROS, "visual.transformer.resblocks.0.ln_1.weight": ZEROS}, "packed in_proj"),
    (lambda s: {"transformer.resblocks.0.attn.in_proj_weight": ZEROS}, "packed in_proj"),
    (lambda s: {"vision_model.embeddings.patch_embedding.weight": ZEROS}, "vision tower of CLIP or SigLIP"),
    (
      lambda s: {"vision_model.head.probe": ZEROS, "vision_model.encoder.layers.0.self_attn.k_proj.weight": ZEROS},
      "attention pooling",
    ),
  ],
)
def test_what_is_missing_is_named(tmp_path, capsys, state, change, words):
  path = tmp_path / "a.safetensors"
  write_safetensors(path, change(state))
  assert cli.main(["import", f"--from={path}", f"--out={tmp_path / 'W'}"]) == 2
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1 and not (tmp_path / "W").exists(), error


def test_a_config_of_quickgelu_is_refused(tmp_path, capsys, state):
  write_safetensors(tmp_path / "model.safetensors", state)
  config = '{"architecture": "vit_toy_patch16_224", "model_args": {"act_layer": "quick_gelu"}}'
  (tmp_path / "config.json").write_text(config)
  assert cli.main(["import", f"--from={tmp_path}", f"--out={tmp_path / 'W'}"]) == 2
  assert "act_layer is 'quick_gelu', here 'exact'" in capsys.readouterr().err
