"""Whole photos with all their persons, as detectors see them, from the annotations that crops.py makes crops of."""

import collections

from input_pipeline.sources.annotated.labeled_images import LabeledImage, Labels
from input_pipeline.sources.annotated.person import AnnotatedPerson, Annotations
from input_pipeline.sources.annotated.photos import Photos

# instances.png has 8 bits.
_MOST_MASKS = 255


def labels_of_photos(photos: Photos, annotated: Annotations) -> Labels:
  """Returns every annotated photo with all its persons.

  A person has an `id`, such that `photo#id` is the name of its crop, and `ignore`, which is true for a crowd and for
  everything else that the data set excludes from scores. instances.png shows the persons with masks, smaller ones
  over larger ones.

  Args:
    photos: the photos of the data set.
    annotated: its annotations, including photos without a person.

  Returns:
    The labels, in pixels of the photos.
  """
  labels = Labels(
    photos,
    left_out=annotated.left_out,
    legend=dict(annotated.legend),
    read_from=annotated.read_from,
    in_pixels=True,
    categories=annotated.counted_categories(),
  )
  labels.legend |= (named := annotated.joint_legend(annotated.persons))
  by_photo = collections.defaultdict(list)
  for person in annotated.persons:
    by_photo[person.photo].append(person)
  for photo in annotated.photos.keys() | by_photo.keys():
    persons = by_photo.get(photo, [])
    image = LabeledImage(photo, dict(annotated.photos.get(photo, {})))
    for person in persons:
      image.facts |= person.photo_facts
      image.size, image.upright = image.size or person.size, image.upright or person.upright
    image.facts["people"] = [_facts(person, named) for person in persons]
    layers = [[number, person.mask] for number, person in enumerate(persons, 1) if person.mask]
    if layers and len(persons) > _MOST_MASKS:
      labels.left_out.append((photo, f"{len(persons)} persons; masks hold at most {_MOST_MASKS}"))
      continue
    image.planes |= {"instances.png": {"layers": layers}} if layers else {}
    labels.images.append(image)
  return labels


def _facts(person: AnnotatedPerson, legend: dict) -> dict:
  return {"id": person.id} | person.as_facts(legend) | ({"ignore": True} if person.ignored else {})
