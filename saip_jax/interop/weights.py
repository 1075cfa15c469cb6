"""Opens the weights of one model: a run, an import, an export or a published file."""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from input_pipeline.checks import shortlist
from input_pipeline.names import shown
from input_pipeline.storage import plain_absolute
from saip_jax.backbones import BACKBONES, OWN_ATTRIBUTES
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.pos_embed import INTERPOLATIONS
from saip_jax.backbones.statistics import join_statistics, split_statistics
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.declared import ReadOptions, as_size, read_json
from saip_jax.interop.identify import refuse_other_facts
from saip_jax.interop.normalization import ASSUMED
from saip_jax.interop.pretrained import pretrained_folder, pretrained_models
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.spec import IMAGENET, BackboneSpec, Normalization, Weights
from saip_jax.interop.tables import flatten, refuse_not_finite, unflatten
from saip_jax.interop.tensor_files import SUFFIXES, read_tensors, sha256
from saip_jax.interop.weight_files import check_dialect, extra_files, open_weight_file
from saip_jax.run_folder.files import CHECKPOINTS, CONFIG, MODEL, MODEL_FILE
from saip_jax.run_folder.integrity import checkpoint_steps, newest_to_read
from saip_jax.run_folder.reading import read_model, read_model_description
from saip_jax.run_folder.remote import local, with_urls
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

WEIGHTS_FILE = "weights.safetensors"
"""The tensors of an import, beside its `MODEL_FILE`."""


def open_weights(
  path,
  dialect: str | None = None,
  image_hw: tuple[int, int] | None = None,
  part: str | None = None,
  flag: str | None = None,
  **answers,
) -> Weights:
  """Returns the weights of a run, of a folder made by `saip import` or `saip export`, or of a file.

  Args:
    path: a run's workdir (its newest whole checkpoint) or one of its checkpoints; a folder with one file of weights; a
      file; each as a local path or a URL; or the name of a model of this package, see `pretrained.pretrained_models`.
    dialect: a name in `DIALECTS`; None recognizes it by the names of the tensors.
    image_hw: size in pixels of the stored positions, for a file that does not specify it.
    part: section or module of a file that holds the encoder, see `nesting.locate`.
    flag: the flag that `path` was given by, for the message if nothing is there.
    **answers: what the user states about a file that does not: other fields of `ReadOptions`.

  Raises:
    ValueError: nothing to read there, weights that are not finite, or weights that do not fit, every mismatch named.
    OSError: a bucket that cannot be read.
  """
  given, path = path, pretrained_folder(path) or local(path, "the weights")
  options = ReadOptions(dialect, image_hw, part, **answers)
  if dialect is not None:
    check_dialect(dialect)
  if not path.exists():
    models = ", ".join(pretrained_models())
    name = f"{flag}={given}" if flag else given
    raise ValueError(f"{name}: no such file, folder or model of this package" + (f" ({models})" if models else ""))
  try:
    weights = _open_folder(plain_absolute(path), options) if path.is_dir() else open_weight_file(path, options)
  except ValueError as e:
    raise ValueError(with_urls(str(e) if shown(str(path)) in str(e) else f"{path}: {e}")) from e
  notes = tuple(with_urls(note) for note in weights.notes)
  return dataclasses.replace(weights, origin=with_urls(weights.origin), notes=notes)


def _open_folder(path: pathlib.Path, options: ReadOptions) -> Weights:
  if (path / CHECKPOINTS).is_dir() and ((path / CONFIG).is_file() or checkpoint_steps(path)):
    return _open_newest(path, options)
  if path.name.isdigit() and path.parent.name == CHECKPOINTS:
    if (path / MODEL / MODEL_FILE).is_file() or (path.parents[1] / CONFIG).is_file():
      return _open_checkpoint(path.parents[1], int(path.name), options)
  if (path / MODEL_FILE).is_file():
    return _open_imported(path, options)
  extra = extra_files(path)
  files = [f for f in sorted(path.iterdir()) if f.suffix in SUFFIXES and f not in extra]
  if len(files) != 1:
    found = ", ".join(f.name for f in files) or "none"
    raise ValueError(f"{path} is no run and does not hold exactly one file of weights ({found}); name the file itself")
  return open_weight_file(files[0], options)


def _open_newest(workdir: pathlib.Path, options: ReadOptions) -> Weights:
  step, notes = newest_to_read(workdir)
  weights = _open_checkpoint(workdir, step, options)
  return dataclasses.replace(weights, notes=(*notes, *weights.notes))


def _open_checkpoint(workdir: pathlib.Path, step: int, options: ReadOptions) -> Weights:
  step_path = workdir / CHECKPOINTS / str(step)
  model = read_model_description(workdir, step)
  spec = _spec_of(model, step_path)
  _refuse_other_answers(options, spec)
  params, method_state = read_model(step_path)
  if "backbone" not in params:
    raise ValueError(f"the run {workdir} has no backbone: it trains {', '.join(params)}")
  head_counts = model.get("head_counts", {}).items()
  head_counts = {name: n for name, n in head_counts if name.removesuffix("_heads") in params}
  origin = f"step {step} of the run {workdir}"
  student = _with_statistics(params, method_state, "student") | {
    name: method_state[name] for name in ("banks",) if name in method_state
  }
  teacher = _with_statistics(method_state["teacher"], method_state, "teacher") if "teacher" in method_state else None
  weights = Weights(spec, student, teacher, origin, head_counts=head_counts, step=step)
  _check_backbones(weights)
  return weights


def _with_statistics(modules: dict, method_state: dict, who: str) -> dict:
  """Returns modules with their running statistics: those of the backbone are stored as `who`, others by name."""
  statistics = method_state.get("statistics", {})
  of_module = {"backbone": statistics.get(who)} | statistics
  return {name: join_statistics(tree, of_module.get(name)) for name, tree in modules.items()}


def _spec_of(model: Mapping[str, Any], where: pathlib.Path) -> BackboneSpec:
  """Returns the backbone that a model.json describes.

  Args:
    model: its content, "facts" as `BackboneSpec.facts` returns them.
    where: what it was read for, for errors.

  Raises:
    ValueError: no facts of a known backbone, or facts that contradict it.
  """
  facts = model.get("facts")
  image_hw = as_size(facts.get("image_hw")) if isinstance(facts, dict) else None
  known = image_hw and facts.get("name") in BACKBONES
  positions = facts.get("pos_interpolation") if known and ARCHITECTURES[facts["name"]].positions else None
  if not known or ARCHITECTURES[facts["name"]].positions and positions not in INTERPOLATIONS:
    raise ValueError(f"{where} does not describe a known backbone, as saip import does: its facts are {facts}")
  stated = facts.get("mean", IMAGENET[0]), facts.get("std", IMAGENET[1])  # older runs do not say: all had ImageNet's
  spec = BackboneSpec(facts["name"], image_hw, positions, normalization=_normalization(stated))
  if ARCHITECTURES[facts["name"]].kind == "vit":  # older folders lack some of these
    spec = spec.having(**{name: facts[name] for name in OWN_ATTRIBUTES if type(facts.get(name)) in (int, float)})
  refuse_other_facts(facts, spec)
  return spec


def _normalization(stated) -> Normalization | None:
  return None if None in stated else tuple(tuple(map(float, values)) for values in stated)


def _open_imported(path: pathlib.Path, options: ReadOptions) -> Weights:
  model = read_json(path / MODEL_FILE)
  spec = _spec_of(model, path / MODEL_FILE)
  _refuse_other_answers(options, spec)
  tensors, _ = read_tensors(path / WEIGHTS_FILE)
  if sha256(path / WEIGHTS_FILE) != model.get("sha256", {}).get(WEIGHTS_FILE):
    raise ValueError(f"{path / WEIGHTS_FILE} is not the file that was imported: its sha256 is not that of {MODEL_FILE}")
  tree, new = unflatten(tensors), tuple(model.get("new", ()))
  weights = Weights(
    spec,
    tree["student"],
    tree.get("teacher"),
    model.get("origin", str(path)),
    notes=() if spec.normalization else (ASSUMED,),
    new=new,
    head_counts=model.get("head_counts", {}),
  )
  _check_backbones(weights)
  return weights


def _refuse_other_answers(options: ReadOptions, spec: BackboneSpec) -> None:
  """Raises ValueError if an argument of `open_weights` contradicts a run or an import."""
  if options.image_hw and tuple(options.image_hw) != spec.image_hw:
    size, own = ("x".join(map(str, hw)) for hw in (options.image_hw, spec.image_hw))
    raise ValueError(f"--image-hw={size}, but these weights are for {own}")
  facts, module = spec.facts(), spec.build()
  for name in OWN_ATTRIBUTES:
    n, own = getattr(options, name), facts.get(name, getattr(module, name, "none"))
    if n is not None and n != own:
      raise ValueError(f"--{name.replace('_', '-')}={n}, but these weights have {own}")
  if options.normalization and options.normalization != spec.normalization:
    raise ValueError(f"--mean and --std are for files: these weights have {spec.normalization or 'none stated'}")
  if options.class_token is not None:
    raise ValueError("--class-token is for files: these weights state what they have")
  if options.semantic_weight is not None:
    raise ValueError(
      f"--semantic-weight={options.semantic_weight:g} is for a SOLIDER file: a run or an import is of one weight"
    )
  if options.part:
    raise ValueError(f"--part={options.part} is for files: a run or an import has its student and its teacher")


def _check_backbones(weights: Weights) -> None:
  """Raises ValueError if a backbone does not have the shapes of its spec, or if any weights are not finite."""
  wanted = parameter_shapes(weights.spec.build())
  for who, tree in (("student", weights.student), ("teacher", weights.teacher)):
    if tree is not None:
      found = {path: np.shape(a) for path, a in flatten(tree.get("backbone", {})).items()}
      odd = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
      if odd:
        listed = shortlist([f"{p} is {found.get(p, 'missing')}, expected {wanted.get(p, 'none')}" for p in odd])
        raise ValueError(f"the {who}'s backbone is no {weights.spec.name} for {weights.spec.image_hw}: {listed}")
      refuse_not_finite(flatten({who: tree}))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """Turns images into the input of a backbone.

  >>> Preprocessing((256, 128))(np.zeros((1, 256, 128, 3), np.uint8)).shape
  (1, 256, 128, 3)

  Attributes:
    image_hw: size in pixels that images are resized to, without keeping their aspect ratio.
    mean: mean of each channel, for values 0 to 1, RGB.
    std: standard deviation of each channel, likewise.
    stated: whether the weights state mean and deviation; otherwise ImageNet's are assumed.
  """

  image_hw: tuple[int, int]
  mean: tuple[float, float, float] = IMAGENET_MEAN
  std: tuple[float, float, float] = IMAGENET_STD
  stated: bool = True

  def __call__(self, images_u8) -> jnp.ndarray:
    """Returns (B, H, W, 3) uint8 RGB images of that size as float32, normalized."""
    return (jnp.asarray(images_u8, jnp.float32) / 255.0 - jnp.array(self.mean)) / jnp.array(self.std)


@dataclasses.dataclass(frozen=True)
class LoadedBackbone:
  """A backbone ready to be applied: `module.apply(variables, preprocessing(images_u8))`.

  Attributes:
    module: a `saip_jax.backbones.features.Backbone`, float32.
    params: its parameters, running statistics among them.
    preprocessing: turns images into its input.
  """

  module: Backbone
  params: dict
  preprocessing: Preprocessing

  @property
  def variables(self) -> dict:
    """The first argument of `module.apply`: "params", and "batch_stats" where the network has running statistics."""
    return split_statistics(self.params)


def load_backbone(path, which: str = "student", image_hw: tuple[int, int] | None = None) -> LoadedBackbone:
  """Returns the backbone of a run or of a file of weights.

  >>> backbone = saip_jax.load_backbone("runs/demo", which="teacher")  # doctest: +SKIP
  >>> features = backbone.module.apply(backbone.variables, backbone.preprocessing(images_u8))  # doctest: +SKIP

  Args:
    path: anything that `open_weights` reads.
    which: "student" or "teacher".
    image_hw: size in pixels that positions are resized to, in 2-D; None keeps that of the weights.

  Raises:
    ValueError: nothing to read there, no such teacher, or a size that the backbone does not accept.
  """
  return loaded_backbone(open_weights(path), which, image_hw)


def loaded_backbone(
  weights: Weights, which: str = "student", image_hw: tuple[int, int] | None = None
) -> LoadedBackbone:
  """Returns the backbone of weights that are open; arguments and errors as in `load_backbone`.

  Assumptions made in reading them are printed on standard error.
  """
  if image_hw is not None:
    weights = weights.resized(image_hw)
  for note in weights.notes:
    print(f"weights  {note}", file=sys.stderr)
  preprocessing = Preprocessing(
    weights.spec.image_hw, *(weights.normalization or IMAGENET), stated=weights.normalization is not None
  )
  return LoadedBackbone(weights.spec.build(), weights.backbone(which), preprocessing)
