"""Where SAIP may deviate from the released code."""

import dataclasses
from typing import Literal

from input_pipeline.checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behavior:
  """Each place where a run can deviate from the released code. None: as in the fidelity.

  The instance is the anchor at half size, the RoI (region of interest) the last local crop; CSS searches for both.

  Attributes (released; improved):
    positions: "flat1d" resizes the table of positions as one line, so that columns drift; "grid2d" as a grid.
    tokens: "uniform" starts positions and mask tokens at U[0, 1) and decays them and the class token; "normal" starts
      them at N(0, 0.02) and decays none.
    ema: "constant" applies `teacher_momentum` at every micro-step; "cosine" raises it to 1 over the run and moves the
      teacher once per update.
    csr_mask: "carried" draws the mask on the grid of a global view and carries it to the enlarged one, where about 1.5
      seen patches are scored and as many hidden ones are not; "exact" draws it there.
    csr_context: "cls" gives the decoder the anchor's class token alone, in the place of the first patch; "tokens" lets
      every block attend to all tokens of the anchor, as in the paper's figure.
    resize: "nearest" picks pixels for the instance, the rescaled crops and the enlarged view; "antialiased" filters.
    crop_sizes: "cut" drops the right and lower pixels of rescaled crops that fill no patch; "whole" rounds their sides
      to whole patches.
    scale_draw: "step" draws one pair of scales per micro-step; "sample" one for each image.
    scene_order: "fixed" places the RoI left of the instance; "random" in any order.
    scene_second: person of the RoI: "same", the one of the image; "other", the one of the next image of the batch, so
      that the search must distinguish persons.
    scene_persons: smallest and largest number of persons in a scene; 1: the instance alone, and the RoI is searched for
      in vain; 3: also a distractor from another image.
    balance: "centering" of the teacher's outputs; "sinkhorn", three Sinkhorn-Knopp iterations over the batch.
    statistics: running statistics of the teacher, for backbones with batch norm: "own", from its own batches; "ema", a
      moving average of the student's, as for parameters; "copied", the student's.
  """

  positions: Literal["flat1d", "grid2d"] | None = None
  tokens: Literal["uniform", "normal"] | None = None
  ema: Literal["constant", "cosine"] | None = None
  csr_mask: Literal["carried", "exact"] | None = None
  csr_context: Literal["cls", "tokens"] | None = None
  resize: Literal["nearest", "antialiased"] | None = None
  crop_sizes: Literal["cut", "whole"] | None = None
  scale_draw: Literal["step", "sample"] | None = None
  scene_order: Literal["fixed", "random"] | None = None
  scene_second: Literal["same", "other"] | None = None
  scene_persons: tuple[int, int] | None = None
  balance: Literal["centering", "sinkhorn"] | None = None
  statistics: Literal["own", "ema", "copied"] | None = None

  def __post_init__(self):
    low, high = self.scene_persons or (2, 2)
    require(
      1 <= low <= high <= 3,
      f"config.method.behavior.scene_persons is {self.scene_persons}: smallest and largest number within 1 to 3",
    )


FIDELITIES = {
  "official": Behavior(
    positions="flat1d",
    tokens="uniform",
    ema="constant",
    csr_mask="carried",
    csr_context="cls",
    resize="nearest",
    crop_sizes="cut",
    scale_draw="step",
    scene_order="fixed",
    scene_second="same",
    scene_persons=(2, 2),
    balance="centering",
    statistics="own",
  ),
  "improved": Behavior(
    positions="grid2d",
    tokens="normal",
    ema="cosine",
    csr_mask="exact",
    csr_context="tokens",
    resize="antialiased",
    crop_sizes="whole",
    scale_draw="sample",
    scene_order="random",
    scene_second="other",
    scene_persons=(1, 3),
    balance="centering",
    statistics="ema",
  ),
}
