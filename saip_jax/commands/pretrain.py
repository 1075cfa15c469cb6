"""`saip pretrain`."""

from saip_jax.commands.flags import RECIPE_HELP, local_path_flag, place_flag

EXAMPLE = "saip pretrain --config=saip_demo --workdir=runs/demo"
PAGE = "start/if_it_goes_wrong"


def add_flags(parser) -> None:
  parser.epilog = (
    "Any setting of the recipe can be changed: --config.batch_size=8 --config.optimizer.learning_rate=1e-3"
  )
  parser.add_argument(
    "--config", required=True, type=local_path_flag, metavar="FILE", help=RECIPE_HELP.format("saip_demo")
  )
  parser.add_argument(
    "--workdir",
    required=True,
    type=place_flag,
    metavar="DIR",
    help="folder for all outputs of this run: a path, or gs://BUCKET/DIR, s3://BUCKET/DIR",
  )
  parser.add_argument(
    "--dry-run",
    action="store_true",
    help="check everything that the run needs, and estimate its memory and time; no update, nothing in the workdir",
  )
  parser.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="several hosts: an address on the machine of process 0 (found by itself on Cloud TPU, Slurm and Kubernetes)",
  )
  parser.add_argument("--processes", type=int, metavar="N", help="several hosts: their number")
  parser.add_argument("--process", type=int, metavar="I", help="several hosts: the number of this one, from 0")


def run(options, settings) -> int:
  import gc

  gc.set_threshold(20_000, 20, 10)  # tracing makes many objects that stay: looking for garbage takes seconds
  from saip_jax.recipes import open_recipe

  config = open_recipe(options.config, settings)
  hosts = {"coordinator": options.coordinator, "processes": options.processes, "process": options.process}
  if options.dry_run:
    from saip_jax.dry_run import dry_run

    dry_run(config, options.workdir, **hosts)
    return 0
  from saip_jax.host_memory import keep_freed_memory

  keep_freed_memory()
  from saip_jax.pretraining import pretrain  # imports JAX: errors of a recipe come before

  pretrain(config, options.workdir, **hosts)
  return 0
