"""Keypoint AP of crops end to end: the same predictions by our reader and task, and by pycocotools on the same file."""

import contextlib
import io

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from input_pipeline.body import AIC_SIGMAS, COCO_JOINTS, COCO_SIGMAS, CROWDPOSE_SIGMAS
from input_pipeline.sources.datasets.coco import open_coco
from saip_jax.evaluation.splits import LabeledImages
from saip_jax.evaluation.tasks import joints
from tests.support.annotated_photos import annotation, coco, write_json

CROWDPOSE = (*COCO_JOINTS[5:], "head", "neck")
AIC = (
  *(
    f"{side}_{joint}"
    for limb in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
    for side in ("right", "left")
    for joint in limb
  ),
  "head_top",
  "neck",
)
HW = (240, 320)


def _photos(root, names, seed=0, photos=12, counted=None, **image_facts):
  """A set of photos with a few persons each, some without joints, some of few pixels, and crowds."""
  rng = np.random.default_rng(seed)
  (root / "images").mkdir(parents=True)
  persons = []
  for k in range(photos):
    cv2.imwrite(str(root / "images" / f"{k}.png"), np.zeros((*HW, 3), np.uint8))
    for j in range(4):
      size = rng.uniform(8, 15, 2) if j == 3 else rng.uniform(40, 150, 2)
      corner = rng.uniform(0, np.array(HW[::-1]) - size)
      xy = corner + (rng.random((len(names), 2)) * 1.5 - 0.25) * size  # some outside the box, and outside its crop
      v = rng.integers(0, 3, len(names)) * (j != 3) * (rng.random() < 0.8)
      xy = np.clip(np.round(xy), 1, np.array(HW[::-1]) - 2)
      crowd = k % 3 == 0 and j == 2
      v = v * (not crowd)
      persons.append(
        annotation(
          10 * k + j + 1,
          k,
          np.round([*corner, *size], 1).tolist(),
          area=float(size.prod() * rng.uniform(0.3, 0.9)),
          keypoints=np.where(v[:, None] > 0, np.c_[xy, v], 0).astype(int).ravel().tolist(),
          num_keypoints=int((v > 0).sum() if counted is None else counted(k, j, v)),
        )
        | {"iscrowd": int(crowd)}
      )
  content = coco(
    [(k, f"{k}.png", *HW) for k in range(photos)], persons, [{"id": 1, "name": "person", "keypoints": list(names)}]
  )
  for image in content["images"]:
    image |= {name: value(image["id"]) for name, value in image_facts.items()}
  return write_json(root / "annotations" / "person_keypoints_val.json", content), content


def _measured(file, content, sigmas, seed=0, area=lambda own: own["area"]):
  """Returns our result, pycocotools' ten numbers for the same predictions, and the persons with predictions."""
  source = open_coco(str(file), None, str(file.parents[1] / "cache"), "--data")
  truth = joints.true_joints(LabeledImages(source))
  rng, own = np.random.default_rng(seed), {each["id"]: each for each in content["annotations"]}
  places, results, asked = [], [], []
  for i in range(len(source)):
    left, top, wide, high = source.annotations(i)[0]["crop"]
    person = own[int(source.name(i).rpartition("#")[2])]
    # Some are found, some not at all, some on the crowd of the photo.
    crowd = [each for each in content["annotations"] if each["image_id"] == person["image_id"] and each["iscrowd"]]
    xy = np.array(person["keypoints"], float).reshape(-1, 3)[:, :2] + rng.normal(size=(len(sigmas), 2)) * rng.choice(
      [1.0, 4.0, 40.0]
    )
    if crowd and i % 2:
      x, y, w, h = crowd[0]["bbox"]
      xy = np.array([x, y]) + rng.random((len(sigmas), 2)) * (w, h)
    places.append((xy + 0.5 - (left, top)) / (wide, high))
    asked.append(person)
    results.append(
      dict(image_id=person["image_id"], category_id=1, keypoints=np.c_[xy, np.ones(len(xy))].ravel().tolist())
    )
  sure = rng.random((len(places), 1))
  found = joints.score_joints(np.array(places), np.repeat(sure, len(sigmas), 1), np.arange(len(places)), truth, {}, [])
  read = {person["id"] for person in asked}
  # A person without a crop is ignored, and has no prediction.
  annotations = [
    each
    | {
      "area": area(each),
      "iscrowd": each["iscrowd"],
      "num_keypoints": each["num_keypoints"] if each["id"] in read else 0,
    }
    for each in own.values()
  ]
  kept = [result | {"score": float(s[0])} for result, person, s in zip(results, asked, sure) if person["num_keypoints"]]
  with contextlib.redirect_stdout(io.StringIO()):
    peer = COCO()
    peer.dataset = content | {"annotations": annotations, "info": {}}
    peer.createIndex()
    run = COCOeval(peer, peer.loadRes(kept), "keypoints")
    run.params.kpt_oks_sigmas = sigmas
    run.evaluate()
    run.accumulate()
    run.summarize()
  return found, run.stats, asked


def _same(found, stats):
  numbers = {name: found.scores.get(name, -1) for name in ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")}
  np.testing.assert_allclose(list(numbers.values()), stats[:6], atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_photos_with_crowds_score_as_pycocotools_scores_them(tmp_path, seed):
  file, content = _photos(tmp_path, COCO_JOINTS, seed)
  found, stats, asked = _measured(file, content, COCO_SIGMAS, seed)
  _same(found, stats)
  assert 0.05 < found.scores["AP"] < 0.9 and found.facts["matched"] == "in the photo"
  assert found.facts["area"] == "of the annotations" and "AP_leaves_out" not in found.facts
  unlabeled = sum(not person["num_keypoints"] for person in asked)
  assert set(found.facts["AP_ignores"].split("; ")) == {
    f"{unlabeled}: num_keypoints is 0",
    "4: a crowd, not one person",
    "12: too small: the shorter side of its box has less than 16 pixels",
  }


def test_a_detection_on_a_crowd_is_not_false(tmp_path):
  """One person and one crowd: confident predictions inside the crowd cost nothing."""
  person = annotation(1, 0, [20, 20, 60, 120], area=4000.0, keypoints=[40, 50, 2] * 17, num_keypoints=17)
  crowd = annotation(3, 0, [90, 10, 200, 200], area=30_000.0, keypoints=[0] * 51, num_keypoints=0) | {"iscrowd": 1}
  scores = {}
  for name, persons in (("with", [person, person | {"id": 4}, crowd]), ("without", [person, person | {"id": 4}])):
    root = tmp_path / name
    (root / "images").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "0.png"), np.zeros((*HW, 3), np.uint8))
    file = write_json(
      root / "annotations" / "person_keypoints_val.json",
      coco([(0, "0.png", *HW)], persons, [{"id": 1, "name": "person", "keypoints": list(COCO_JOINTS)}]),
    )
    source = open_coco(str(file), None, str(root / "cache"), "--data")
    truth = joints.true_joints(LabeledImages(source))
    left, top, wide, high = source.annotations(0)[0]["crop"]
    on_crowd = (np.full((17, 2), (150.5, 60.5)) - (left, top)) / (wide, high)
    found = joints.score_joints(
      np.stack([on_crowd, truth.places[1]]), np.array([[0.9], [0.5]]) * np.ones(17), np.arange(2), truth, {}, []
    )
    scores[name] = found.scores["AP"]
  # Of two persons one is found. With the crowd no detection is false: precision 1 up to recall 1/2, 51 of 101 points.
  assert scores["with"] == pytest.approx(51 / 101)
  assert scores["without"] == pytest.approx(0.5 * 51 / 101)  # the surer one is false


@pytest.mark.parametrize("seed", range(3))
def test_crowdpose_ignores_persons_of_whom_no_joint_is_visible(tmp_path, seed):
  """Its num_keypoints counts the visible joints alone; those that are hidden are labeled all the same."""
  file, content = _photos(
    tmp_path, CROWDPOSE, seed, counted=lambda k, j, v: 0 if j == 0 else (v == 2).sum(), crowdIndex=lambda k: k / 12
  )
  found, stats, asked = _measured(file, content, CROWDPOSE_SIGMAS, seed, lambda own: 0.53 * np.prod(own["bbox"][2:]))
  _same(found, stats)
  hidden = sum(not person["num_keypoints"] for person in asked)
  assert f"{hidden}: num_keypoints is 0" in found.facts["AP_ignores"] and hidden >= 12
  assert found.facts["area"] == "0.53 of the boxes" and {"AP_easy", "AP_medium", "AP_hard"} <= found.scores.keys()


def test_without_num_keypoints_labeled_joints_decide(tmp_path):
  file, content = _photos(tmp_path, COCO_JOINTS)
  before, _, _ = _measured(file, content, COCO_SIGMAS)
  for each in content["annotations"]:
    del each["num_keypoints"]
  after = joints.score_joints(*_again(write_json(tmp_path / "annotations" / "person_keypoints_val.json", content)))
  same = joints.score_joints(*_again(_photos(tmp_path / "again", COCO_JOINTS)[0]))
  assert after.scores == same.scores and after.facts["persons"] == before.facts["persons"]
  assert after.facts["AP_ignores"] == same.facts["AP_ignores"].replace("num_keypoints is 0", "no labeled joint")


def _again(file):
  source = open_coco(str(file), None, str(file.parents[1] / "other cache"), "--data")
  truth = joints.true_joints(LabeledImages(source))
  places = truth.places + np.random.default_rng(0).normal(scale=0.05, size=truth.places.shape)
  return places, np.random.default_rng(1).random(truth.known.shape), np.arange(len(places)), truth, {}, []


@pytest.mark.parametrize("member", [{}, {"area": 9999.0}])
def test_the_area_of_aic_is_a_share_of_the_box(tmp_path, member):
  """All 14 joints off by the distance at which OKS is exactly 0.6 for an area of 0.53 of the box, and 0.76 for all."""
  box = [40, 40, 100, 120]
  (tmp_path / "images").mkdir()
  cv2.imwrite(str(tmp_path / "images" / "0.png"), np.zeros((*HW, 3), np.uint8))
  person = annotation(1, 0, box, keypoints=[90, 100, 2] * 14, num_keypoints=14) | member
  file = write_json(
    tmp_path / "annotations" / "person_keypoints_val.json",
    coco([(0, "0.png", *HW)], [person], [{"id": 1, "name": "person", "keypoints": list(AIC)}]),
  )
  truth = joints.true_joints(LabeledImages(open_coco(str(file), None, str(tmp_path / "cache"), "--data")))
  # exp(-d^2 / (2 * 0.53 * 100 * 120 * (2 sigma)^2)) = 0.6
  off = np.sqrt(-np.log(0.6) * 2 * 0.53 * 100 * 120) * 2 * AIC_SIGMAS
  for factor, hits in ((0.999, 3), (1.001, 2)):  # thresholds 0.5, 0.55 and 0.6
    places = truth.places + np.stack([factor * off, 0 * off], 1) / truth.sizes[:, None]
    found = joints.score_joints(places, np.ones((1, 14)), np.arange(1), truth, {}, [])
    assert found.scores["AP"] == pytest.approx(hits / 10) and found.facts["area"] == "0.53 of the boxes"


def test_a_set_without_areas_takes_the_share_of_the_box_too(tmp_path):
  file, content = _photos(tmp_path, COCO_JOINTS)
  for each in content["annotations"]:
    each["area"] = 0.53 * float(np.prod(each["bbox"][2:]))
  given = joints.score_joints(*_again(write_json(file, content)))
  for each in content["annotations"][::2]:
    del each["area"]
  half = joints.score_joints(*_again(write_json(file, content)))
  assert given.facts["area"] == "of the annotations"
  assert half.facts["area"].startswith("of the annotations, 0.53 of the boxes of ")
  assert list(half.scores.values()) == pytest.approx(list(given.scores.values()))
