"""How weights were made, for model cards: from the folder of their run, or from the parity.json of their export."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from input_pipeline.names import shown
from input_pipeline.storage import is_url
from saip_jax.interop.declared import MODEL_CONFIG, PARITY_FILE
from saip_jax.interop.pretrained import pretrained_folder
from saip_jax.interop.terms import terms_of
from saip_jax.run_folder.files import CHECKPOINTS, CONFIG, EVALUATIONS, MODEL_FILE
from saip_jax.run_folder.integrity import checkpoint_steps
from saip_jax.run_folder.reading import read_fingerprint
from saip_jax.run_folder.remote import local

_ROLES = ("started from", "expert")
_KEPT = ("history", "scores", "terms", "license")


def run_history(checkpoint, step: int | None = None, which: str = "student") -> dict[str, Any]:
  """Returns how weights were made; {} for weights of another program.

  Args:
    checkpoint: a run's folder, or one of its checkpoints W/checkpoints/<step>; an export, or a file in it; or the name
      of a model of this package.
    step: number of updates, for a run; None for that of its newest checkpoint.
    which: the network, for the scores.

  Returns:
    "history", name -> text for a table; "scores", records of `saip evaluate` for this network at this step; "terms",
    sentences about licenses of other weights that it or they were made with; and "license", if an earlier export
    states it.
  """
  path = (pretrained_folder(checkpoint) or local(checkpoint, "--checkpoint")).absolute()
  parity = _read(path / PARITY_FILE) if path.is_dir() else _read(path.with_name(PARITY_FILE))
  if "history" in parity and (path.is_dir() or path.name in parity.get("files", ())):
    return {name: parity[name] for name in _KEPT if parity.get(name) is not None}
  workdir = path.parent.parent if path.parent.name == CHECKPOINTS else path
  config = _read(workdir / CONFIG)
  if not {"method", "data", "batch_size", "precision", "total_steps"} <= config.keys():
    return {}
  if step is None:
    step = int(path.name) if workdir != path else max(checkpoint_steps(path), default=0)
  batch_size, others = config["batch_size"], {role: _made(role, place) for role, place in _others(config).items()}
  history = {
    "method": _method(config["method"]),
    **({"recipe": _recipe(config)} if isinstance(config.get("optimizer"), dict) else {}),
    "step": f"{step:,} of {config['total_steps']:,}",
    "data": _data(config["data"], workdir / CHECKPOINTS / str(step)),
    "images seen": f"{step * batch_size:,} (batches of {batch_size:,}, {config['precision']})",
    **{role: text for role, (text, _) in others.items()},
  }
  if "expert" in history and history["expert"] == history.get("started from"):
    history["expert"] = "the weights that it started from"
  terms = dict.fromkeys(term for _, of_role in others.values() for term in of_role)
  return {"history": history, "scores": _scores(workdir, step, which), "terms": list(terms)}


def _others(config: Mapping[str, Any]) -> dict[str, str]:
  """Returns role -> place of the other weights that a run was made with."""
  places = dict(zip(_ROLES, (config.get("init_from"), config["method"].get("expert"))))
  return {role: place for role, place in places.items() if isinstance(place, str) and place}


def _made(role: str, place: str) -> tuple[str, list[str]]:
  """Returns how other weights were made, and sentences about licenses: those of a run are of what it was made with."""
  name = shown(pathlib.PurePath(place).name)
  made = {} if is_url(place) else run_history(place)
  if not made:
    return name, [terms_of(role, _names(place))]
  parts = [made["history"][key] for key in ("method", "data")]
  parts += [f"{made['history']['step']} updates"]
  parts += [f"{role} {made['history'][role]}" for role in _ROLES if role in made["history"]]
  return f"{name} ({', '.join(parts)})", made.get("terms", [])


def _method(method: Mapping[str, Any]) -> str:
  """Returns the name of a method, with its fidelity and the task whose labels it learns, if it has them."""
  fidelity = f", fidelity {method['fidelity']}" if "fidelity" in method else ""
  return method["name"] + (f" with the labels of {method['task']}" if "task" in method else "") + fidelity


def _recipe(config: Mapping[str, Any]) -> str:
  optimizer = config["optimizer"]
  settings = {"peak learning rate": "learning_rate", "weight decay": "weight_decay"}
  values = [f"{name} {optimizer[key]:g}" for name, key in settings.items() if key in optimizer]
  return ", ".join([optimizer.get("name", "adamw"), *values, f"seed {config.get('seed', 0)}"])


def _data(data: Mapping[str, Any], step_path: pathlib.Path) -> str:
  """Returns the kinds of data sets, their names, and the number of images if the checkpoint tells it."""
  named = lambda part: shown(pathlib.PurePath(part["path"]).name) if part.get("path") else "the default set"
  kind = lambda part: "built-in people" if part["source"] == "people" else part["source"]
  parts = (data.get("mixture") or {}).values() if data["source"] == "mixture" else [data]
  text = " + ".join(f"{kind(part)} ({named(part)})" for part in parts)
  try:
    count = read_fingerprint(step_path)["data"]["images"]
  except (ValueError, KeyError, TypeError):
    return text
  return f"{text}, {count:,} images" if isinstance(count, int) else text


def _scores(workdir: pathlib.Path, step: int, which: str) -> list[dict[str, Any]]:
  """Returns the newest record of each task, protocol and data set that measured this network at this step."""
  try:
    lines = (workdir / EVALUATIONS).read_text("utf-8").splitlines()
  except OSError:
    return []
  found = {}
  for line in lines:
    try:
      record = json.loads(line)
      encoder, facts = record["encoder"], record["facts"]
      tested = facts.get("test") or facts["gallery"]
      about = {name: record[name] for name in ("task", "protocol", "scores")}
      about |= {"data": shown(tested["name"]), "image_hw": encoder["image_hw"]}
      measured = encoder["checkpoint"].startswith(f"step {step} of the run ") and encoder["which"] == which
    except (ValueError, KeyError, TypeError):  # cut off, of an earlier version, or without a network
      continue
    if measured:
      found[about["task"], about["protocol"], about["data"], *about["image_hw"]] = about
  return list(found.values())


def _names(place: str) -> dict[str, str]:
  """Returns what the weights at a place are called: where the name is from -> name."""
  path = pathlib.Path(place)
  folder = path if path.is_dir() else path.parent
  timm, model = _read(folder / MODEL_CONFIG), _read(folder / MODEL_FILE)
  pretrained, facts = (_mapping(part) for part in (timm.get("pretrained_cfg"), model.get("facts")))
  timms = [timm.get("architecture"), pretrained.get("tag")]
  names = {
    f"the {MODEL_CONFIG} beside it": ".".join(filter(None, map(_text, timms))),
    f"its {MODEL_FILE}": " of ".join(filter(None, map(_text, (facts.get("name"), model.get("origin"))))),
    "its file name": path.name,
  }
  return {source: shown(name) for source, name in names.items() if name}


def _mapping(value) -> Mapping[str, Any]:
  return value if isinstance(value, Mapping) else {}


def _text(value) -> str:
  return value if isinstance(value, str) else ""


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def shortened(origin: str) -> str:
  """Returns the text with its paths reduced to the last folder and the file: disk locations stay private."""
  return shown(re.sub(r"/(?:[^/\s]+/)+(?=[^/\s]+/[^/\s]+)", "", origin))
