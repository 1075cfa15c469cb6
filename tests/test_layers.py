"""The walls between packages: who may import whom."""

import ast
import pathlib
import runpy
import types

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
TORCH = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxscript", "onnxruntime")
HEAVY = (*TORCH, "tensorflow", "tensorflow_datasets", "grain", "clu", "ml_collections", "matplotlib")


def imports(path: pathlib.Path, anywhere: bool) -> set[str]:
  """Modules a file imports: at module level only, or anywhere."""
  tree = ast.parse(path.read_text())
  nodes = ast.walk(tree) if anywhere else tree.body
  found = set()
  for node in nodes:
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
  return found


NOT_LOSSES = tuple(f"saip_jax.{p.stem}" for p in (REPO / "saip_jax").glob("[a-z]*") if p.name != "losses")

ABOVE_TRAINING = tuple(f"saip_jax.{name}" for name in ("reporting", "evaluation", "interop", "methods", "recipes"))

_SOURCES = "input_pipeline.sources"
ABOVE_DATASETS = tuple(f"{_SOURCES}.{name}" for name in ("table", "recognize", "combined", "subset"))

RULES = [  # folder or file, forbidden, whether also inside functions
  ("input_pipeline", ("jax", "flax", "saip_jax", "torch", "tensorflow"), True),
  ("saip_jax", HEAVY, False),
  ("saip_jax", ("tensorflow", "jax._src"), True),
  ("saip_jax/config.py", ("saip_jax", "jax", "flax"), True),
  ("saip_jax/pictures.py", ("flax", "saip_jax.methods", "saip_jax.training", "saip_jax.reporting"), True),
  ("saip_jax/losses", ("flax", *NOT_LOSSES), True),
  ("saip_jax/views", ("flax", "saip_jax.methods", "saip_jax.backbones", "saip_jax.training"), True),
  ("saip_jax/masking", ("flax", "saip_jax.methods", "saip_jax.backbones", "saip_jax.training"), True),
  ("saip_jax/backbones", ("saip_jax.heads", "saip_jax.methods", "saip_jax.training"), True),
  ("saip_jax/heads", ("saip_jax.methods", "saip_jax.training"), True),
  ("saip_jax/methods", ("saip_jax.training", "saip_jax.reporting", "saip_jax.evaluation", "orbax"), True),
  ("saip_jax/run_folder", (*ABOVE_TRAINING, "saip_jax.training", "saip_jax.config"), True),
  ("saip_jax/training", (*ABOVE_TRAINING, "saip_jax.backbones", "saip_jax.losses"), True),
  ("saip_jax/interop", ("saip_jax.methods", "saip_jax.config", "saip_jax.recipes", "saip_jax.training"), True),
  ("saip_jax/evaluation", ("saip_jax.reporting", "saip_jax.commands"), True),
  ("saip_jax/reporting", ("saip_jax.commands",), True),
  ("configs", ("saip_jax", "input_pipeline", "jax"), True),
  ("input_pipeline/sources/containers", (*ABOVE_DATASETS, f"{_SOURCES}.annotated", f"{_SOURCES}.datasets"), True),
  ("input_pipeline/sources/annotated", (*ABOVE_DATASETS, f"{_SOURCES}.datasets"), True),
  ("input_pipeline/sources/datasets", ABOVE_DATASETS, True),
]


@pytest.mark.parametrize("folder,forbidden,anywhere", RULES, ids=lambda v: v if isinstance(v, str) else None)
def test_imports(folder, forbidden, anywhere):
  place = REPO / folder
  files = [place] if place.is_file() else sorted(place.rglob("*.py"))
  assert files
  for path in files:
    for name in imports(path, anywhere):
      assert not any(name == f or name.startswith(f + ".") for f in forbidden), f"{path} imports {name}"


@pytest.fixture(scope="module")
def structure():
  return types.SimpleNamespace(**runpy.run_path(str(REPO / "scripts" / "count_structure.py")))


@pytest.fixture(scope="module")
def graph(structure):
  known = structure.modules(REPO)
  return {name: structure.imports_of(path, known) - {name} for name, path in known.items()}


def test_no_modules_import_each_other_in_a_circle(structure, graph):
  assert structure.circles(graph) == []


def test_rooms_stand_on_one_another(structure, graph):
  """At most one import between rooms runs against the others, that of the package's face."""
  back = structure.arrows_back_up(structure.rooms(graph))
  assert [pair for pair in back if "saip_jax" not in pair] == [] and len(back) <= 1


def test_the_walls_are_seen(structure):
  """Each pair of rooms that import each other has an arrow that runs back; a ring has one."""
  assert len(structure.arrows_back_up({"a": {"b"}, "b": {"a"}})) == 1
  assert len(structure.arrows_back_up({"a": {"b"}, "b": {"a", "c"}, "c": {"b"}})) == 2
  assert len(structure.arrows_back_up({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == 1
  assert structure.circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_only_interop_knows_pytorch():
  """And there inside functions, as HEAVY says: everything but export to PyTorch runs without it."""
  for path in (p for p in (REPO / "saip_jax").rglob("*.py") if p.parent.name != "interop"):
    assert not {name.split(".")[0] for name in imports(path, True)} & {*TORCH}, path


def test_only_the_pipeline_needs_grain():
  users = {
    p.name for p in (REPO / "input_pipeline").rglob("*.py") if any(n.split(".")[0] == "grain" for n in imports(p, True))
  }
  assert users == {"pipeline.py", "orders.py"}


def test_two_files_know_orbax():
  """One writes checkpoints, one reads them; `training/distributed.py` uses its barrier between processes."""
  users = {
    str(p.relative_to(REPO / "saip_jax"))
    for p in (REPO / "saip_jax").rglob("*.py")
    if any(n.split(".")[0] == "orbax" for n in imports(p, True))
  }
  assert users == {"run_folder/reading.py", "training/checkpoint.py", "training/distributed.py"}
