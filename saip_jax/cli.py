"""The `saip` command: flags in, one library call out. Nothing heavy is imported before a command needs it."""

import os
import pathlib
import sys
from collections.abc import Sequence

from input_pipeline.names import ESCAPED, shown_error
from saip_jax.cli_flags import make_parser

# Pictures on a preview sheet, and the size of the set they are the first of if none is given: then all are different
# people.
_PREVIEW_COUNT, _PREVIEWED_COUNT = 40, 320
# Pictures of the set of people that a report shows some of: that of the demo.
_REPORTED_COUNT = 512


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit status; a person's mistake is one line on standard error and status 2."""
  for stream in (sys.stdout, sys.stderr):  # whatever the locale, a name in a message never ends a command
    if hasattr(stream, "reconfigure"):
      stream.reconfigure(errors=ESCAPED)
  options, rest = make_parser().parse_known_args(arguments)
  if options.traceback:
    return _run(options, rest)
  try:
    return _run(options, rest)
  except (ValueError, OSError) as e:  # what a person can mend; anything else is our bug and shows its traceback
    print(f"saip {options.command}: error: {shown_error(e)}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"saip {options.command}: interrupted", file=sys.stderr)
    return 130


def _run(options, rest: list[str]) -> int:
  """Hands what is no flag of a command to the one that reads settings, and refuses it for all others."""
  if options.run in _WITH_SETTINGS:
    return _WITH_SETTINGS[options.run](options, rest)
  if rest:
    raise ValueError(f"unknown argument {rest[0]!r}; see {options.prog} --help")
  return _COMMANDS[options.run](options)


def _pretrain(options, overrides) -> int:
  from input_pipeline.pipeline import build_train_data
  from input_pipeline.schema import to_dict
  from saip_jax.config import parse_config
  from saip_jax.methods import METHODS
  from saip_jax.recipes import apply_overrides, load_recipe
  from saip_jax.run_folder.lock import holding
  from saip_jax.training.checkpoint import claim_workdir
  from saip_jax.training.distributed import first_host_first, initialize
  from saip_jax.training.loop import pretrain

  config = parse_config(apply_overrides(load_recipe(options.config), overrides))
  initialize(options.coordinator, options.processes, options.process)
  method = METHODS[config.method.name].build(config)
  spec = method.batch_spec(config.batch_size)
  with first_host_first():
    workdir = claim_workdir(options.workdir, to_dict(config))
  with holding(workdir):
    with first_host_first():  # what it renders, indexes and writes, the others find
      data = build_train_data(
        source=config.data.source,
        path=config.data.path,
        scene_path=config.data.scene_path,
        cache_dir=workdir,
        canvas_hw=config.data.canvas_hw,
        scene_canvas_hw=config.data.scene_canvas_hw if "scene" in spec else None,
        batch_size=config.batch_size,
        seed=config.seed,
        workers=config.data.workers,
        threads=config.data.threads,
        max_damaged_fraction=config.data.max_damaged_fraction,
        people_count=config.data.people_count,
        split=config.data.split,
        subset=config.data.subset,
        mixture=to_dict(config.data)["mixture"],
        people_composition=config.data.people_composition,
        whole=config.data.whole_photos,
        fields=tuple(spec),
        pairs=to_dict(config.data.pairs),
        pictures_per_identity=config.data.pictures_per_identity,
      )
      METHODS[config.method.name].check_data(config.method, data)
    pretrain(config, method, data, workdir)
  for line in data.unknown.lines():
    print(line)
  return 0


def _compile(options, overrides) -> int:
  import json

  from saip_jax.aot.compile import OutOfMemory, examine, search_largest
  from saip_jax.aot.report import out_of_memory_facts, report_text
  from saip_jax.aot.topologies import find_topology
  from saip_jax.config import parse_config
  from saip_jax.methods import METHODS
  from saip_jax.recipes import apply_overrides, load_recipe

  batch = [] if options.batch is None else [f"--config.batch_size={options.batch}"]
  config = parse_config(apply_overrides(load_recipe(options.config), overrides + batch))
  topology, build = find_topology(options.topology), METHODS[config.method.name].build
  try:
    facts = examine(config, build, topology)
    first = config.batch_size, facts["hbm"]["total"]
  except OutOfMemory as error:
    facts = out_of_memory_facts(config, build, topology, error)
    first = config.batch_size, max(error.needed, error.limit + 1)
  if options.largest:
    state = facts["hbm"]["state"]
    facts["largest_batch"], facts["tried_batches"] = search_largest(config, build, topology, first, state)
  print(json.dumps(facts, indent=2) if options.json else report_text(facts))
  return 0 if facts["fits"] else 1


def _prepare_people(options) -> int:
  from input_pipeline.people.prepare import check_request, default_identities, prepare_people
  from input_pipeline.people.spec import SetSpec

  if not options.preview and (options.out is None or options.count is None):
    raise ValueError("--out=DIR and --count=N are needed, or --preview=FILE.png; see saip prepare people --help")
  composition = options.composition or ("scenes" if options.export == "coco" else "crops")
  image_hw = options.image_hw or ((480, 640) if composition == "scenes" else (256, 128))
  count = _PREVIEWED_COUNT if options.count is None else options.count
  identities = default_identities(composition, count) if options.identities is None else options.identities
  spec = SetSpec(composition, image_hw, options.seed, identities)
  check_request(spec, count, options.export)
  if options.preview:
    from input_pipeline.people.preview import draw_preview

    for path in draw_preview(options.preview, spec, min(count, _PREVIEW_COUNT)):
      print(path)
  if options.out:
    prepare_people(options.out, spec, count, options.export)
    print(f"{count} images in {options.out}")
  return 0


def _prepare(options) -> int:
  from input_pipeline.prepare.prepare import prepare
  from input_pipeline.prepare.shard import PrepareRequest
  from input_pipeline.prepare.side_files import Companions
  from input_pipeline.sources.annotated.categories import categories_text

  companions = Companions(
    depth=options.depth,
    depth_grid=options.depth_grid,
    depth_range=options.depth_range,
    instances=options.instances,
    keypoints=options.keypoints,
    pairs=options.pairs,
    joints=options.joints,
  )
  request = PrepareRequest(
    options.kind,
    options.path,
    options.split,
    options.subset,
    options.margin,
    options.min_side,
    companions,
    options.max_side,
    options.scene_hw if options.scenes else None,
  )
  manifest = prepare(
    request, options.out, processes=options.processes, runner=options.runner, runner_options=options.runner_options
  )
  print(f"{manifest['count']:,} images in {len(manifest['shards'])} shards in {options.out}")
  for sentence in categories_text(manifest["categories"]):
    print(sentence)
  if manifest["left_out"]:
    print(f"{manifest['left_out']:,} left out, listed in {options.out}/left_out.txt")
  return 0


def _doctor(options) -> int:
  import json

  from input_pipeline.doctor.checkup import doctor
  from input_pipeline.doctor.report import report_text

  facts = doctor(
    options.path,
    source=options.source,
    split=options.split,
    out=options.out,
    limit=options.limit,
    whole=options.all,
    subset=options.subset,
    seed=options.seed,
  )
  print(json.dumps(facts, indent=2) if options.json else report_text(facts))
  return 0


def _embed(options) -> int:
  from saip_jax.evaluation.feature_files import skipped_path
  from saip_jax.evaluation.features import embed_images

  embedded = embed_images(
    options.checkpoint,
    options.images,
    options.out,
    options.which,
    options.image_hw,
    options.tokens,
    options.batch_size,
    options.overwrite,
  )
  shapes = ", ".join(f"{name} {shape}" for name, shape in embedded.shapes.items())
  print(f"{embedded.count} images in {options.out}: {shapes}")
  if embedded.skipped:
    print(f"{len(embedded.skipped)} images skipped, listed in {skipped_path(pathlib.Path(options.out))}")
  return 0


def _evaluate(options, overrides) -> int:
  import contextlib
  import json

  from input_pipeline.storage import cache_folder
  from saip_jax.evaluation.evaluate import evaluate, report_text, task_of
  from saip_jax.evaluation.splits import Data

  data = Data.parse(
    options.data,
    cache_dir=cache_folder(),
    people_count=options.people_count,
    train_split=options.train_split,
    test_split=options.test_split,
    hold_out=options.hold_out,
  )
  output = sys.stdout
  show = lambda record: print(
    json.dumps(record, indent=2) if options.json else report_text(record), file=output, flush=True
  )
  if options.finetune is None:
    if overrides or options.workdir:
      raise ValueError(f"{(overrides or ['--workdir'])[0]!r} is for --finetune; see {options.prog} --help")
    evaluate(
      options.checkpoint,
      options.task,
      data,
      options.protocol,
      options.which,
      options.image_hw,
      options.seed,
      options.flip_test,
      show,
    )
  else:
    task_of(options.task, None)
    if options.protocol:
      raise ValueError("--finetune measures in its own way: leave out --protocol")
    from saip_jax.evaluation.finetune import finetune

    with contextlib.redirect_stdout(sys.stderr):  # the record alone is the command's output
      finetune(
        options.checkpoint,
        options.task,
        data,
        options.finetune,
        overrides,
        options.workdir,
        options.image_hw,
        options.seed,
        options.which,
        options.flip_test,
        show,
      )
  return 0


def _report(options) -> int:
  os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a few images need no accelerator, and the run may still hold it
  from input_pipeline.storage import cache_folder
  from saip_jax.evaluation.splits import Data
  from saip_jax.reporting.report import write_report

  data = Data.parse(options.data, cache_dir=cache_folder(), people_count=_REPORTED_COUNT, hold_out=options.hold_out)
  out = write_report(options.workdir, options.compare, options.out, data)
  print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, opens in any browser")
  return 0


def _import(options) -> int:
  from saip_jax.interop.importing import import_weights, report

  weights = import_weights(
    options.source,
    options.dialect,
    options.out,
    options.image_hw,
    part=options.part,
    heads=options.heads,
    last_heads=options.last_heads,
  )
  print("\n".join(report(weights, options.out)))
  return 0


def _export(options) -> int:
  from saip_jax.interop.export import export_weights, summary

  record = export_weights(
    options.checkpoint,
    options.dialect,
    options.out,
    options.which,
    options.image_hw,
    options.positions,
    options.with_preprocessing,
  )
  print(summary(record, options.out))
  return 0


_WITH_SETTINGS = {"pretrain": _pretrain, "compile": _compile, "evaluate": _evaluate}
_COMMANDS = {
  "prepare_people": _prepare_people,
  "prepare": _prepare,
  "doctor": _doctor,
  "embed": _embed,
  "report": _report,
  "import": _import,
  "export": _export,
}
