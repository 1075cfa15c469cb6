"""Counts what the layout of the code is judged by: files, lines, rooms, imports between them, names defined twice.

    python scripts/count_structure.py [FOLDER] [--list]

A room is a module or package directly inside `saip_jax/`, or `input_pipeline/` as a whole. An arrow is a room that
imports another one, at module level or inside a function. An arrow back up closes a circle of rooms: it is counted as
the fewest arrows to be taken away until there is none (exact for small circles). A circle is a set of modules that
import each other, directly or not. FOLDER is a checkout, this one by default, so that two commits can be compared.
"""

import argparse
import ast
import collections
import itertools
import pathlib

PACKAGES = ("saip_jax", "input_pipeline")
REPO = pathlib.Path(__file__).resolve().parent.parent


def modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns dotted name -> file of every module of the packages."""
  files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
  return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports_of(path: pathlib.Path, known) -> set[str]:
  """Returns the modules of ours that a file imports, anywhere in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level:
      names = {f"{node.module}.{alias.name}" for alias in node.names}
      found |= (names & known.keys()) or {node.module}
  return found & known.keys()


def room_of(module: str) -> str:
  """Returns the room that a module is in: `saip_jax.methods.mae.method` -> `saip_jax.methods`."""
  parts = module.split(".")
  return parts[0] if parts[0] != "saip_jax" else ".".join(parts[:2])


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
  """Returns room -> rooms that it imports, of module -> modules that it imports."""
  result = collections.defaultdict(set)
  for name, targets in graph.items():
    result[room_of(name)] |= {room_of(target) for target in targets} - {room_of(name)}
  return dict(result)


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
  """Returns the strongly connected components of more than one node (Tarjan)."""
  index, low, stack, result = {}, {}, [], []

  def visit(node):
    index[node] = low[node] = len(index)
    stack.append(node)
    for other in graph.get(node, ()):
      if other not in index:
        visit(other)
      if other in stack:
        low[node] = min(low[node], low[other])
    if low[node] == index[node]:
      component = set()
      while node not in component:
        component.add(stack.pop())
      if len(component) > 1:
        result.append(component)

  for node in graph:
    if node not in index:
      visit(node)
  return result


def arrows_back_up(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
  """Returns the fewest arrows without which there is no circle."""
  inside = [(a, b) for group in circles(graph) for a in group for b in graph[a] & group]
  for count in range(len(inside) + 1):
    for removed in itertools.combinations(inside, count):
      if not circles({a: {b for b in targets if (a, b) not in removed} for a, targets in graph.items()}):
        return list(removed)
  return inside


def public_names(path: pathlib.Path) -> set[str]:
  """Returns the classes, functions and constants that a module defines at its top, without an underscore."""
  names = set()
  for node in ast.parse(path.read_text("utf-8")).body:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
      names.add(node.name)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
      targets = node.targets if isinstance(node, ast.Assign) else [node.target]
      names |= {target.id for target in targets if isinstance(target, ast.Name)}
  return {name for name in names if not name.startswith("_")}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("folder", nargs="?", type=pathlib.Path, default=REPO)
  parser.add_argument("--list", action="store_true", help="also list circles, arrows back up and names defined twice")
  options = parser.parse_args()
  known = modules(options.folder)
  graph = {name: imports_of(path, known) - {name} for name, path in known.items()}
  between = rooms(graph)
  homes = collections.defaultdict(list)
  for name, path in known.items():
    for public in public_names(path):
      homes[public].append(name)
  twice = {name: places for name, places in sorted(homes.items()) if len(places) > 1}
  back = arrows_back_up(between)
  found_circles = circles(graph)
  lines = [len(path.read_text("utf-8").splitlines()) for path in known.values()]
  tests = sorted((options.folder / "tests").rglob("*.py"))
  print(f"modules                    {len(known)}")
  print(f"lines of modules           {sum(lines):,}")
  print(f"longest module             {max(lines)}")
  print(f"test files, lines          {len(tests)}, {sum(len(t.read_text('utf-8').splitlines()) for t in tests):,}")
  print(f"rooms                      {len(between)}")
  print(f"arrows between rooms       {sum(map(len, between.values()))}")
  print(f"arrows back up             {len(back)}")
  print(f"circles of modules         {len(found_circles)}")
  print(f"public names defined twice {len(twice)}")
  if options.list:
    for a, b in back:
      print(f"back up: {a} -> {b}")
    for group in found_circles:
      print(f"circle: {', '.join(sorted(group))}")
    for name, places in twice.items():
      print(f"twice: {name}: {', '.join(places)}")


if __name__ == "__main__":
  main()
