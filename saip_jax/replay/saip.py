"""One step of the published SAIP."""

import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.vit import ViT
from saip_jax.interop import saip as dialect
from saip_jax.interop.tables import to_torch
from saip_jax.masking.anchor import upsample_mask
from saip_jax.methods.saip.config import MatchingConfig, ReconstructionConfig, SaipConfig, SearchConfig
from saip_jax.methods.saip.method import Saip
from saip_jax.methods.saip.views import SaipDraws, SaipViews
from saip_jax.replay.recording import Recording
from saip_jax.replay.step import run_step


def _method(recording: Recording) -> Saip:
  config = recording.meta
  backbone = ViT(
    width=config["embed_dim"],
    depth=config["depth"],
    heads=config["num_heads"],
    image_hw=tuple(config["img_size"]),
    patch=config["patch_size"][0],
  )
  locals_ = len(recording.numbered("in/local"))
  depth = len({name.split(".")[0] for name in recording.below("student/css_decoder.self_atten_blocks.")})
  not_used = (0.0, 1.0)
  width, heads = config["decoder_embed_dim"], config["decoder_num_heads"]
  settings = SaipConfig(
    name="saip",
    fidelity="official",
    local_crops=locals_ - 1,
    crop_aspect=not_used,
    global_area=not_used,
    local_area=not_used,
    rescale_factors=(config["scale_local7"], config["scale_region"]),
    teacher_momentum=config["ema"],
    csm=MatchingConfig(
      prototypes=config["out_dim"],
      hidden=config["hidden_dim"],
      bottleneck=config["bottleneck_dim"],
      temp_student=config["student_temp"],
      temp_teacher=config["teacher_temp"],
      center_momentum=config["center_momentum"],
    ),
    csr=ReconstructionConfig(
      scale=1.25, mask_ratio=config["mask_ratio"], width=width, depth=config["decoder_depth"], heads=heads
    ),
    css=SearchConfig(
      scene_size=recording["in/ref"].shape[-1],
      scene_area=not_used,
      scene_aspect=not_used,
      paste_opacity=0.7,
      width=width,
      depth=depth,
      heads=heads,
    ),
  )
  return Saip(settings, backbone, (0, 0), (0, 0), total_steps=1)


def _views(recording: Recording, method: Saip) -> SaipViews:
  patch = method.backbone.patch
  mask = lambda name: jnp.asarray(recording[f"in/{name}"][:, ::patch, ::patch], jnp.float32)
  ids = lambda name: jnp.asarray(recording[f"rand/{name}"], jnp.int32)
  base = jnp.asarray(recording["rand/base_mask"], jnp.float32)
  seen = upsample_mask(base.reshape(len(base), -1), method.networks.grid, method.networks.csr_grid)
  return SaipViews(
    globals=recording.images("in/view1", "in/view2"),
    crops=recording.images(*recording.numbered("in/local")),
    scene=recording.images("in/ref")[:, 0],
    inst_mask=mask("inst_mask"),
    roi_mask=mask("roi_mask"),
    draws=SaipDraws(1.0 - seen, ids("ids_keep"), ids("ids_restore"), jnp.broadcast_to(jnp.arange(2), (len(base), 2))),
  )


def _published_order(logits) -> np.ndarray:
  """(B, V, K) -> (V * B, K): the published code stacks whole batches view by view."""
  logits = np.asarray(logits)
  return logits.swapaxes(0, 1).reshape(-1, logits.shape[-1])


def replay_saip(recording: Recording) -> None:
  """Runs the recorded step and adds a check for each of its numbers."""
  method = _method(recording)
  patch = method.backbone.patch
  recorded = {who: recording.below(f"{who}/") for who in ("student", "teacher")}
  params, teacher = (dialect.read(weights) for weights in recorded.values())
  method_state = {"teacher": teacher, "center": recording["in/center"][0]}
  step = run_step(method, params, method_state, _views(recording, method), recording.meta)
  out, published = step.aux.outputs, lambda tree: to_torch(tree, dialect.SAIP_ROWS, patch)

  for name in recording.below("loss/"):
    recording.loss(f"loss/{name}", step.aux.metrics[f"loss/{name}"])
  flat = lambda x: np.asarray(x).reshape(len(x), -1)
  outputs = {
    "csm_student": _published_order(out.logits),
    "csm_teacher": _published_order(out.teacher_logits),
    "csr_pred": out.reconstruction,
    "css_inst_logits": flat(out.inst_logits),
    "css_roi_logits": flat(out.roi_logits),
    "new_center": step.after.method_state["center"][None],
    "ref_feats": out.scene[:, ::8],
  }
  for name, ours in outputs.items():
    recording.output(f"out/{name}", ours)
  gradients = published(step.gradients)
  recording.gradients("", gradients)
  recording.weights("student_after/", published(step.after.params), "grad/", recorded["student"], gradients)
  after = dialect.read(published(step.after.params) | recording.below("student_after/"))
  moved = method.after_update(method_state, after, step.aux.for_update, jnp.zeros((), jnp.int32))
  recording.teacher(published(moved["teacher"]))
