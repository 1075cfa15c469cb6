"""`saip compile`."""

from saip_jax.commands.flags import RECIPE_HELP, local_path_flag

EXAMPLE = "saip compile --config=saip_vit_tiny --topology=v5e-8"
PAGE = "scale/compile_ahead"


def add_flags(parser) -> None:
  parser.epilog = "Any setting of the recipe can be changed, as in saip pretrain. Exit status 1: it does not fit."
  parser.add_argument(
    "--config", required=True, type=local_path_flag, metavar="FILE", help=RECIPE_HELP.format("saip_vit_tiny")
  )
  parser.add_argument(
    "--topology",
    required=True,
    metavar="NAME",
    help="Google Cloud's name of the chips: v5e-8, v5e-256, v4-64, ...; or GPUs: h100, h100-8, h200, a100, l4, ...",
  )
  parser.add_argument("--batch", type=int, metavar="N", help="images per update, over all chips (the recipe's)")
  parser.add_argument("--largest", action="store_true", help="search the largest batch that fits: up to 5 compiles")
  parser.add_argument(
    "--breakdown",
    type=int,
    nargs="?",
    const=1,
    metavar="DEPTH",
    help="where the time goes, by part of the method and kind of work; DEPTH modules inside each other name a part (1)",
  )
  parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options, settings) -> int:
  import json

  import jax

  from saip_jax.aot.compile import OutOfMemory, examine_step, search_largest
  from saip_jax.aot.report import compile_report, out_of_memory_facts
  from saip_jax.aot.topologies import find_topology
  from saip_jax.methods import METHODS
  from saip_jax.recipes import open_recipe

  jax.config.update("jax_platforms", "cpu")  # nothing runs: leave accelerators to others, and look for none
  batch = [] if options.batch is None else [f"--config.batch_size={options.batch}"]
  config = open_recipe(options.config, settings + batch)
  topology, build = find_topology(options.topology), METHODS[config.method.name].build
  try:
    facts = examine_step(config, build, topology, options.breakdown)
    first = config.batch_size, facts["hbm"]["total"]
  except OutOfMemory as error:
    facts = out_of_memory_facts(config, build, topology, error)
    first = config.batch_size, max(error.needed, error.limit + 1)
  if options.largest:
    state = facts["hbm"]["state"]
    facts["largest_batch"], facts["tried_batches"] = search_largest(config, build, topology, first, state)
  print(json.dumps(facts, indent=2) if options.json else compile_report(facts))
  return 0 if facts["fits"] else 1
