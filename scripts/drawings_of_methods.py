"""The drawings of the methods, each a function without arguments that returns a canvas."""

from collections.abc import Callable

import numpy as np
from svg_canvas import FAINT, TEXT, Canvas

WHOLE = (2, 2, 46, 96)
LOCALS = ((8, 0, 28, 56), (6, 48, 26, 52), (14, 14, 22, 44))
_GROUND, _SKY = "#bdb6a4", "#e4e1d8"


def _hidden(rows: int, columns: int, share: float, seed: int = 3) -> set[tuple[int, int]]:
  """Returns cells drawn at random, the same ones each time."""
  drawn = np.random.default_rng(seed).permutation(rows * columns)[: round(share * rows * columns)]
  return {(int(i) // columns, int(i) % columns) for i in drawn}


def _views(c: Canvas, y: float, count: str) -> None:
  """Draws two global views, local crops and the instance."""
  c.person(30, y, 128, WHOLE)
  c.person(108, y, 128, (4, 0, 44, 92), "colors", mirrored=True)
  for i, part in enumerate(LOCALS):
    c.person(220 + 52 * i, y + 64, 64, part, "rgb" if i % 2 else "colors")
  c.text(387, y + 96, "...", TEXT)
  c.person(430, y + 64, 64, LOCALS[0], "rgb")
  c.person(514, y + 64, 64, WHOLE)
  c.text(62, y + 140, "anchor")
  c.text(140, y + 140, "augmented")
  c.text(288, y + 140, f"{count} local crops")
  c.text(446, y + 140, "RoI")
  c.text(530, y + 140, "instance")


def _to_networks(c: Canvas, kind: str) -> None:
  """Draws what leads from the views to the network that teaches, of a kind, and to the student."""
  c.arrow((20, 198), (20, 204), (180, 204), (180, 198), head=False)
  c.arrow((214, 198), (214, 204), (580, 204), (580, 198), head=False)
  c.arrow((60, 204), (60, 238), kind=kind)
  c.arrow((160, 204), (160, 220), (330, 220), (330, 238), kind="student")
  c.arrow((450, 204), (450, 238), kind="student")


def saip_csm() -> Canvas:
  c = Canvas(
    478, "Cross-scale matching: the student's features of all crops match the teacher's of the two global views"
  )
  _views(c, 40, "6")
  c.text(530, 56, "half of the\nanchor", color=FAINT)
  _to_networks(c, "teacher")
  c.box(24, 240, 150, 52, "Teacher\nmoving average", "teacher")
  c.box(300, 240, 276, 52, "Student\nevery crop at its own scale", "student")
  c.arrow((298, 266), (178, 266), dashed=True)
  c.text(238, 254, "EMA")
  c.arrow((98, 292), (98, 318), kind="teacher")
  c.arrow((438, 292), (438, 318), kind="student")
  c.box(24, 320, 150, 52, "Head\n- center, / 0.04", "teacher")
  c.box(300, 320, 276, 52, "Head\n65,536 prototypes, / 0.1", "student")
  c.arrow((98, 372), (98, 398))
  c.arrow((438, 372), (438, 398))
  c.box(24, 400, 552, 58, "csm_rep: cross-entropy of different views\ncsm_att: attention maps of the same view", "loss")
  return c


def saip_csr() -> Canvas:
  c = Canvas(420, "Cross-scale reconstruction: hidden patches of an enlarged view, with the anchor as context")
  hidden = _hidden(10, 5, 0.75)
  c.person(46, 30, 120, WHOLE)
  c.text(76, 164, "anchor")
  c.person(215, 30, 150, (4, 0, 44, 92), "colors", mirrored=True)
  c.cells(215, 30, 15, 10, 5, hidden)
  c.text(252, 194, "augmented x 1.25")
  c.text(252, 213, "75 % hidden", color=FAINT)
  c.arrow((76, 176), (76, 238), kind="student")
  c.arrow((252, 222), (252, 238), kind="student")
  c.box(24, 240, 290, 50, "Student\nblocks 1 to 7", "student")
  c.arrow((76, 290), (76, 338))
  c.text(86, 314, "class token", anchor="start")
  c.arrow((252, 290), (252, 338))
  c.text(262, 314, "seen", anchor="start")
  c.box(24, 340, 290, 56, "Decoder\n8 blocks, mask tokens, pixels", "head")
  c.arrow((314, 368), (427, 368), (427, 344))
  c.person(390, 190, 150, (4, 0, 44, 92), "colors", mirrored=True)
  c.cells(390, 190, 15, 10, 5, set())
  c.person(484, 190, 150, (4, 0, 44, 92), "colors", mirrored=True)
  c.text(420, 172, "predicted", anchor="end")
  c.text(528, 172, "target", anchor="start")
  c.arrow((427, 190), (427, 152))
  c.arrow((521, 190), (521, 152))
  c.box(376, 96, 204, 54, "csr: squared error\nof hidden patches", "loss")
  return c


def _scene(c: Canvas, x: float, y: float, side: float) -> None:
  c.rect(x, y, side, side, _SKY)
  c.rect(x, y + 0.7 * side, side, 0.3 * side, _GROUND, _GROUND)
  c.rect(x, y, side, side)
  c.person(x + 0.12 * side, y + 0.16 * side, 0.5 * side, LOCALS[0])
  c.person(x + 0.6 * side, y + 0.36 * side, 0.5 * side, WHOLE)


def _found(c: Canvas, x: float, y: float, side: float, left: float, top: float) -> None:
  c.rect(x, y, side, side, "#20304f")
  c.rect(x + left * side, y + top * side, 0.25 * side, 0.5 * side, "#e2452f", "#e2452f")


def saip_css() -> Canvas:
  c = Canvas(520, "Cross-scale search: a person is searched for in a scene that it was pasted into")
  _scene(c, 40, 36, 150)
  c.text(115, 20, "scene")
  c.text(115, 202, "RoI left, instance right", color=FAINT)
  c.person(330, 36, 128, WHOLE)
  c.text(362, 180, "anchor")
  c.person(478, 62, 76, LOCALS[0])
  c.text(497, 154, "RoI, rescaled by\n0.75 to 1.25")
  c.arrow((115, 212), (115, 238), kind="teacher")
  c.arrow((362, 192), (362, 238), kind="student")
  c.arrow((497, 190), (497, 238), kind="student")
  c.box(24, 240, 182, 50, "Teacher\nblocks 1 to 7", "teacher")
  c.box(300, 240, 276, 50, "Student\nblocks 1 to 7", "student")
  c.arrow((115, 290), (115, 318), kind="teacher")
  c.arrow((362, 290), (362, 318), kind="student")
  c.arrow((497, 290), (497, 318), kind="student")
  c.box(24, 320, 182, 52, "Scene\nmap of features", "head")
  c.box(300, 320, 276, 52, "Query\nits class token looks at the scene", "head")
  c.arrow((206, 346), (298, 346))
  c.arrow((362, 372), (362, 396))
  c.arrow((497, 372), (497, 396))
  c.text(429, 384, "kernels")
  _found(c, 318, 398, 88, 0.6, 0.36)
  _found(c, 453, 398, 88, 0.12, 0.16)
  c.text(362, 500, "instance")
  c.text(497, 500, "RoI")
  c.arrow((115, 372), (115, 442), (316, 442))
  c.text(210, 428, "product in each cell")
  c.arrow((316, 478), (236, 478))
  c.box(24, 452, 210, 52, "css_inst, css_roi\ncross-entropy of each cell", "loss")
  return c


def expert() -> Canvas:
  c = Canvas(462, "Alignment: the student's features, after an adapter, approach those of a frozen expert")
  _views(c, 40, "6")
  _to_networks(c, "expert")
  c.box(24, 240, 190, 52, "Expert, frozen\nits own size, colors", "expert")
  c.box(300, 240, 276, 52, "Student\nthe only one that is exported", "student")
  c.arrow((438, 292), (438, 318), kind="student")
  c.box(300, 320, 276, 52, "Adapter\nto the width of the expert", "head")
  c.arrow((118, 292), (118, 388), kind="expert")
  c.arrow((438, 372), (438, 388))
  c.box(
    24,
    390,
    552,
    56,
    "align_image, align_patch, align_relation\nimage features, patch tokens, relations of tokens",
    "loss",
  )
  return c


def mae() -> Canvas:
  c = Canvas(300, "MAE: most patches are hidden, and predicted from the others")
  hidden = _hidden(8, 4, 0.75, 5)
  c.person(30, 70, 160, WHOLE, width=80)
  c.cells(30, 70, 20, 8, 4, hidden)
  c.text(70, 52, "75 % hidden")
  c.arrow((112, 150), (148, 150))
  c.box(150, 110, 112, 80, "Encoder\nseen patches\nonly", "student")
  c.arrow((262, 150), (296, 150))
  c.box(298, 110, 126, 80, "Decoder\nmask tokens,\nall positions", "head")
  c.arrow((424, 150), (458, 150))
  c.person(460, 70, 160, WHOLE, width=80)
  c.cells(460, 70, 20, 8, 4, set())
  c.text(500, 52, "predicted")
  c.arrow((70, 230), (70, 264), (148, 264))
  c.arrow((500, 230), (500, 264), (452, 264))
  c.box(150, 244, 300, 40, "mae: error of hidden patches", "loss")
  return c


def dino() -> Canvas:
  c = Canvas(398, "DINO: the student's output for every crop matches the teacher's for the other global crop")
  c.person(40, 40, 110, WHOLE)
  c.person(112, 40, 110, (4, 0, 44, 80), "colors", mirrored=True)
  for i, part in enumerate(LOCALS):
    c.person(300 + 60 * i, 90, 60, part, "rgb" if i % 2 else "colors")
  c.text(500, 120, "... 8", TEXT)
  c.text(104, 168, "2 global crops")
  c.text(400, 168, "local crops, half the side")
  c.arrow((60, 178), (60, 208), kind="teacher")
  c.arrow((150, 178), (150, 192), (330, 192), (330, 208), kind="student")
  c.arrow((440, 178), (440, 208), kind="student")
  c.box(24, 210, 176, 52, "Teacher\nencoder, head", "teacher")
  c.box(310, 210, 266, 52, "Student\nencoder, head", "student")
  c.arrow((308, 236), (204, 236), dashed=True)
  c.text(256, 224, "EMA")
  c.text(112, 278, "minus center,", color=FAINT)
  c.text(112, 297, "0.04 to 0.07", color=FAINT)
  c.text(443, 288, "temperature 0.1", color=FAINT)
  c.arrow((112, 310), (112, 332))
  c.arrow((443, 300), (443, 332))
  c.box(24, 334, 552, 44, "dino: cross-entropy of different crops", "loss")
  return c


def hap() -> Canvas:
  c = Canvas(440, "HAP: two masks of one image hide parts of the body first, and their image features are aligned")
  legs = {(r, k) for r in range(4, 8) for k in (1, 2)}
  arms = {(r, k) for r in range(2, 5) for k in (0, 1)} | {(0, 1), (0, 2), (1, 1), (1, 2), (5, 2), (6, 2)}
  blocks = ({(6, 0), (7, 0), (2, 3), (3, 3), (4, 3), (6, 3), (3, 0), (5, 0)}, {(6, 0), (7, 0), (7, 1), (3, 3)})
  c.person(30, 50, 128, WHOLE)
  c.text(62, 34, "crop")
  c.arrow((98, 114), (148, 114))
  for i, mask in enumerate((legs | blocks[0], arms | blocks[1])):
    x = 150 + 130 * i
    c.person(x, 50, 128, WHOLE)
    c.cells(x, 50, 16, 8, 4, mask)
    c.text(x + 32, 34, f"mask {i + 1}")
    c.arrow((x + 32, 182), (x + 32, 214), kind="student")
  c.text(400, 74, "Half of the patches:\nfirst 0 to 6 parts of\nthe body, then blocks,\nthen anything", anchor="start")
  c.box(110, 216, 250, 52, "Encoder\nseen patches only", "student")
  c.arrow((182, 268), (182, 298))
  c.arrow((312, 268), (312, 298))
  c.box(110, 300, 250, 40, "Decoder, as in MAE", "head")
  c.arrow((360, 242), (450, 242), (450, 364))
  c.text(460, 232, "class tokens", anchor="start")
  c.text(460, 252, "of both masks", anchor="start")
  c.arrow((235, 340), (235, 364))
  c.box(24, 366, 340, 56, "mae: hidden patches\nmean of both masks", "loss")
  c.box(380, 366, 196, 56, "align x 0.05\nInfoNCE in the batch", "loss")
  return c


def croco_human() -> Canvas:
  c = Canvas(424, "CroCo-Human: hidden patches are predicted with the help of a second view or pose of the person")
  c.person(50, 50, 140, WHOLE)
  c.cells(50, 50, 17.5, 8, 4, _hidden(8, 4, 0.75, 8))
  c.text(85, 34, "first image")
  c.person(226, 50, 140, (6, 2, 42, 84), mirrored=True)
  c.text(261, 34, "second image")
  c.text(350, 66, "view: same instant,\nother camera", anchor="start")
  c.text(350, 116, "pose: same camera,\nother time", anchor="start")
  c.arrow((85, 190), (85, 218), kind="student")
  c.arrow((261, 190), (261, 218), kind="student")
  c.box(30, 220, 290, 50, "Encoder\none network for both images", "student")
  c.arrow((85, 270), (85, 298))
  c.text(95, 284, "seen patches", anchor="start")
  c.arrow((261, 270), (261, 298))
  c.text(271, 284, "all tokens", anchor="start")
  c.box(30, 300, 290, 76, "Decoder\neach block looks at its own tokens,\nthen at those of the second image", "head")
  c.arrow((320, 338), (358, 338))
  c.person(360, 268, 140, WHOLE)
  c.cells(360, 268, 17.5, 8, 4, set())
  c.arrow((430, 338), (450, 338))
  c.box(452, 282, 132, 112, "Loss\nhidden patches:\nmean of views\n+ that of poses", "loss")
  c.text(395, 254, "predicted")
  return c


def hcmoco() -> Canvas:
  c = Canvas(470, "HCMoCo: image, depth and skeleton of a person are contrasted at three levels")
  kinds = (("image", "rgb", "HRNet-W18", "student"), ("depth", "depth", "HRNet-W18", "teacher"))
  kinds += (("skeleton", "skeleton", "SemGCN", "expert"),)
  for i, (name, look, network, kind) in enumerate(kinds):
    x = 110 + 190 * i
    c.person(x - 32, 40, 128, WHOLE, look)
    c.text(x, 24, name)
    c.arrow((x, 168), (x, 194), kind=kind)
    c.box(x - 74, 196, 148, 40, network, kind)
    c.arrow((x, 236), (x, 264), kind=kind)
  for i, text in enumerate(("128 numbers\nfor each cell", "128 numbers\nfor each cell", "128 numbers\nfor each joint")):
    c.text(110 + 190 * i, 276, text)
  rows = ("sample: whole persons, all pairs of the three", "dense: cells of image and depth, one person")
  rows += ("nodes: maps at the joints, and the skeleton", "joints: the same joint of other persons and maps")
  for i, text in enumerate(rows):
    c.box(24, 316 + 37 * i, 552, 33, text, "loss")
  return c


DRAWINGS: dict[str, Callable[[], Canvas]] = {
  f.__name__: f for f in (saip_csm, saip_csr, saip_css, expert, mae, dino, hap, croco_human, hcmoco)
}
