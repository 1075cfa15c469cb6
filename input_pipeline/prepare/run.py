"""Runs the writing of shards in processes of this machine, or under Beam."""

import functools
import multiprocessing
import shlex

import cv2
from tqdm import tqdm

from input_pipeline.prepare.shard import PrepareRequest, write_request_shard
from input_pipeline.processes import ignoring_interrupts

_POLL_S = 0.2

Jobs = tuple[PrepareRequest, str, int, int]
"""All arguments of `write_request_shard` except the number."""

# Counter of images for the progress bar, set in each process of a pool.
_seen_images = None


def run_in_processes(jobs: Jobs, numbers: list[int], images: int, processes: int, progress: bool) -> None:
  """Writes shards in several processes; raises the exception of the first shard that fails.

  Args:
    jobs: the set to write.
    numbers: numbers of the shards.
    images: total number of images in them.
    processes: number of processes; with 1 the calling process does the work.
    progress: show a progress bar if standard error is a terminal.
  """
  # disable=None: quiet unless standard error is a terminal
  with tqdm(total=images, desc="preparing", unit=" images", disable=None if progress else True) as bar:
    if processes == 1 or len(numbers) <= 1:
      for number in numbers:
        write_request_shard(*jobs, number, seen=bar.update)
      return
    context = multiprocessing.get_context("spawn")
    seen = context.Value("q", 0)
    with ignoring_interrupts():
      pool = context.Pool(min(processes, len(numbers)), _start_process, (seen,))
    with pool:
      pending = [pool.apply_async(_write_shard, (jobs, number)) for number in numbers]
      for result in pending:
        while not result.ready():
          result.wait(_POLL_S)
          bar.update(seen.value - bar.n)
        result.get()
      bar.update(seen.value - bar.n)


def run_under_beam(jobs: Jobs, numbers: list[int], runner: str, options: str) -> None:
  """Writes shards on the machines of a Beam runner.

  Args:
    jobs: the set to write; every machine must have access to source and output.
    numbers: numbers of the shards.
    runner: name of the runner.
    options: options as on Beam's command line, e.g. "--project=P --region=R".

  Raises:
    ValueError: Beam is not installed, or has no such runner.
  """
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners import create_runner
  except ImportError as error:
    raise ValueError(f'--runner={runner} needs Apache Beam: pip install "saip-jax[beam]" ({error})') from error
  try:
    create_runner(runner)
  except (ValueError, ImportError, AttributeError) as error:
    raise ValueError(f"--runner={runner}: {' '.join(str(error).split())}") from error
  with beam.Pipeline(runner=runner, options=PipelineOptions(shlex.split(options))) as pipeline:
    _ = (
      pipeline
      | "Shards" >> beam.Create(numbers)
      | "Spread" >> beam.Reshuffle()
      | "Write" >> beam.Map(functools.partial(write_request_shard, *jobs))
    )


def _start_process(seen) -> None:
  global _seen_images
  _seen_images = seen
  cv2.setNumThreads(1)  # the processes already use all cores


def _write_shard(jobs: Jobs, number: int) -> None:
  write_request_shard(*jobs, number, seen=_count_one)


def _count_one() -> None:
  with _seen_images.get_lock():
    _seen_images.value += 1
