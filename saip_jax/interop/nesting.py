"""Finding the encoders in a weight file: sections of training programs and prefixes of modules.

A file holds its state dict directly or in a section (`state_dict`, `model`, `model_ema`, `student`, ...), and tensor
names may have prefixes (`module.`, `_orig_mod.`, `model.`, `backbone.`, `base.`, `encoder.`, ...) in any order and
number. Neither is matched against a list: an encoder is recognized by the names of its own tensors, and the text before
them is its prefix. So `encoder.layer.0` of another naming is not taken for a prefix, and several encoders in one file
are all found.
"""

import dataclasses
import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipeline.checks import shortlist
from saip_jax.interop.architectures import ARCHITECTURES

StateDict = Mapping[str, np.ndarray]

# Inserted by PyTorch anywhere in a name when a module is wrapped.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Every ViT and Swin has it, no decoder does; the second is of transformers.
_STEM = re.compile(r"^(patch_embed\.proj(ection)?|embeddings\.patch_embeddings(\.projection)?)\.weight$")
_FIRST = re.compile(
  r"^(cls_token|pos_embed|embeddings\.(cls_token|position_embeddings))$"
)  # a ViT without its stem, but also some decoders
_BLOCK = re.compile(r"^(blocks|((encoder|model)\.)?layers?)\.\d+\.")
_NO_WEIGHTS = re.compile(r"optim|sched|scaler")  # sections that may hold other values under tensor names
_AVERAGED = re.compile(r"(^|_)(ema|swa|avg|averaged?|shadow)(_|$)")


@dataclasses.dataclass(frozen=True, eq=False)
class FileEncoder:
  """One encoder in a file.

  Attributes:
    sections: keys of the nested dicts around its state dict, outermost first.
    prefix: text before its tensor names, without PyTorch's wrappers: "module.backbone.".
    state: the whole state dict, without these wrappers; it includes the tensors of other modules.
    stripped: the removed texts: prefixes in the file, and wrappers.
    theirs: timm's name -> name in the file, for tensors that were renamed, see `foreign_names`.
  """

  sections: tuple[str, ...]
  prefix: str
  state: StateDict
  stripped: tuple[str, ...] = ()
  theirs: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def own(self) -> dict[str, np.ndarray]:
    """Its tensors, without the prefix."""
    return {name.removeprefix(self.prefix): a for name, a in self.state.items() if name.startswith(self.prefix)}

  @property
  def others(self) -> list[str]:
    """Names of the other tensors in its state dict."""
    return [name for name in self.state if not name.startswith(self.prefix)]

  def replaced(self, own: StateDict, theirs: Mapping[str, str] = types.MappingProxyType({})) -> "FileEncoder":
    """Returns the encoder with its own tensors replaced; see `theirs`."""
    others = {name: self.state[name] for name in self.others}
    state = others | {f"{self.prefix}{name}": a for name, a in own.items()}
    return dataclasses.replace(self, state=state, theirs=theirs)

  @property
  def parts(self) -> list[str]:
    """The sections and the parts of the prefix, outermost first."""
    return [part for text in (*self.sections, self.prefix) for part in text.split(".") if part]

  @property
  def label(self) -> str:
    """Its path in the file, for messages and for `--part`."""
    return "/".join([*self.sections, *[self.prefix.rstrip(".")] * bool(self.prefix)]) or "the file itself"

  def is_a(self, role: str) -> bool:
    """Returns whether its path names a role, "student" or "teacher"."""
    return any(re.search(rf"(^|_){role}(_|$)", part) for part in self.parts)

  def note(self) -> str | None:
    """Returns where it was read from and what was stripped from its names; None for a flat file with plain names."""
    texts = [f"read from {'/'.join(self.sections)!r}"] * bool(self.sections)
    texts += [f"stripped from the names: {shortlist(self.stripped)}"] * bool(self.stripped)
    return "; ".join(texts) or None


@dataclasses.dataclass(frozen=True)
class Located:
  """The encoders to read from a file.

  Attributes:
    student: the only encoder, or the student.
    teacher: the teacher; None if there is one encoder.
    notes: what was chosen, one line each.
  """

  student: FileEncoder
  teacher: FileEncoder | None = None
  notes: tuple[str, ...] = ()

  @property
  def other_names(self) -> list[str]:
    """Names of the tensors of other modules in the state dicts of these encoders."""
    if self.teacher is None:
      return self.student.others
    if self.teacher.sections != self.student.sections:
      return self.student.others + self.teacher.others
    return [name for name in self.student.others if not name.startswith(self.teacher.prefix)]


def locate(nested: Mapping[str, Any], part: str | None = None) -> Located | None:
  """Returns the encoder in a file, or its student and its teacher; None if it holds no encoder.

  If a file holds weights and their moving average, the weights are taken, with a note. Any other choice is left to the
  user.

  Args:
    nested: content of the file.
    part: a section or module, such as "model_ema" or "base_encoder"; only encoders in it are considered.

  Raises:
    ValueError: several encoders and no preference, or none in that part.
  """
  found = _encoders(nested)
  notes = []
  if part is not None and found:
    found = _in_part(found, part)
  plain = [e for e in found if not any(_AVERAGED.search(p) for p in e.parts)]
  left = [e for e in found if e not in plain]
  if plain and left:
    taken = shortlist([e.label for e in plain])
    notes.append(f"took {taken}, not the moving average: --part={left[0].label} of saip import takes the average")
    found = plain
  if len(found) == 2:
    students, teachers = ([e for e in found if e.is_a(role)] for role in ("student", "teacher"))
    if len(students) == len(teachers) == 1 and students != teachers:
      own = [f"{who}: {e.note()}" for who, e in (("student", students[0]), ("teacher", teachers[0]))]
      return Located(students[0], teachers[0], (*own, *notes))
  if len(found) > 1:
    raise ValueError(
      f"it holds {len(found)} encoders: {shortlist([e.label for e in found])}; choose one with --part=NAME of saip"
      f" import, such as --part={found[0].label}"
    )
  if not found:
    return None
  note = found[0].note()
  return Located(found[0], None, (*[note] * bool(note), *notes))


def _in_part(found: list[FileEncoder], part: str) -> list[FileEncoder]:
  wanted = [p for p in re.split(r"[./]", part) if p]
  spans = lambda e: (e.parts[i : i + len(wanted)] for i in range(len(e.parts)))
  chosen = [e for e in found if e.label == part] or [e for e in found if wanted in spans(e)]
  if not chosen:
    raise ValueError(f"--part={part}: there is no encoder; expected one of {shortlist([e.label for e in found])}")
  return chosen


def _encoders(nested: Mapping[str, Any], sections: tuple[str, ...] = ()) -> list[FileEncoder]:
  """Returns the encoders in the tensors of a section and in the sections inside it."""
  tensors = {name: a for name, a in nested.items() if isinstance(a, np.ndarray)}
  plain = {name: _WRAPPERS.sub("", name) for name in tensors}
  state = {plain[name]: a for name, a in tensors.items()}
  prefixes = _prefixes(state)
  if prefixes and len(state) < len(tensors):
    raise ValueError(
      "some tensors are stored twice, with and without wrappers of PyTorch (_orig_mod.): save one of them"
    )
  found = [FileEncoder(sections, prefix, state, _stripped(plain, prefix)) for prefix in prefixes]
  for name, inner in nested.items():
    if isinstance(inner, Mapping) and not _NO_WEIGHTS.search(str(name)):
      found += _encoders(inner, (*sections, str(name)))
  return found


def _stripped(plain: Mapping[str, str], prefix: str) -> tuple[str, ...]:
  """Returns the parts of the file's names that an encoder's names lack, each once.

  Args:
    plain: name in the file -> name without wrappers.
    prefix: prefix of the encoder.
  """
  found = {}
  for name, unwrapped in plain.items():
    if unwrapped.startswith(prefix):
      own = unwrapped.removeprefix(prefix)
      if name.endswith(own):
        found[name.removesuffix(own)] = True
      else:
        found |= dict.fromkeys((prefix, *_WRAPPERS.findall(name)), True)
  return tuple(repr(text) for text in found if text)


def _prefixes(state: StateDict) -> list[str]:
  """Returns the prefix of each encoder in a state dict, in file order."""
  signs = [re.compile(a.signs) for a in ARCHITECTURES.values() if not a.positions and a.kind != "vit"]
  sure, likely, blocks = {}, {}, set()
  for name in state:
    for start in (0, *(match.end() for match in re.finditer(r"\.", name))):
      prefix, rest = name[:start], name[start:]
      if _STEM.search(rest) or any(sign.search(rest) for sign in signs):
        sure[prefix] = True
      elif _FIRST.search(rest):
        likely[prefix] = True
      elif _BLOCK.search(rest):
        blocks.add(prefix)
  return list(sure) or [prefix for prefix in likely if prefix in blocks]
