"""`saip recipes`."""

from saip_jax.commands.flags import local_path_flag

_FINETUNE = "finetune_"

EXAMPLE = "saip recipes saip_demo --out=my.py"
PAGE = "start/recipes"


def add_flags(parser) -> None:
  parser.epilog = "A name stands for its recipe wherever a command takes one, in any folder: --config=saip_demo."
  parser.add_argument("name", nargs="?", metavar="NAME", help="the recipe to print (without: a list of all)")
  parser.add_argument(
    "--out", type=local_path_flag, metavar="FILE", help="copy the recipe to a new file, to be changed: my.py"
  )


def run(options, settings) -> int:
  from saip_jax.recipes import copy_recipe, shipped_recipe

  if options.out is not None:
    if options.name is None:
      raise ValueError(f"--out={options.out} needs the NAME of a recipe: {options.prog} NAME --out={options.out}")
    print(f"{copy_recipe(options.name, options.out)} is a copy of {options.name}")
  elif options.name is not None:
    print(shipped_recipe(options.name).read_text("utf-8"), end="")
  else:
    print(_listing())
  return 0


def _listing() -> str:
  """Returns the names of all recipes, each with the first line of its docstring, by the command that they are for."""
  from saip_jax.recipes import recipe_files, summary

  summaries = {name: summary(file) for name, file in recipe_files().items()}
  groups = {
    "saip pretrain --config=NAME --workdir=W": [name for name in summaries if not name.startswith(_FINETUNE)],
    "saip evaluate --finetune=NAME ...": [name for name in summaries if name.startswith(_FINETUNE)],
  }
  blocks = []
  for command, names in groups.items():
    width = max(map(len, names), default=0)
    blocks.append("\n".join([command, *(f"  {name:{width}}  {summaries[name]}" for name in names)]))
  return "\n\n".join(blocks)
