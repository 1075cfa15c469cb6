"""Annotated photos with everybody in them, as detectors see them: the persons that crops.py cuts out, put back."""

import collections

from input_pipeline.sources.annotated.person import Annotated, Person
from input_pipeline.sources.annotated.photos import Photos
from input_pipeline.sources.annotated.whole import Labeled, Labels

# instances.png has 8 bits.
_MOST_MASKS = 255


def whole_photos(photos: Photos, annotated: Annotated) -> Labels:
  """Every photo that was looked through for persons, with all of them.

  A person has `id`, so that `photo#id` is the name of the crop that is cut out of the photo, and `ignore`: true of a
  crowd and of whatever else the data set says is neither to be found nor to be missed. Of persons with masks,
  instances.png shows the smaller ones over the larger ones.

  Args:
    photos: those of the data set.
    annotated: what its annotations say; its photos without a person are there too.

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
    image = Labeled(photo, dict(annotated.photos.get(photo, {})))
    for person in persons:
      image.facts |= person.photo_facts
      image.size, image.upright = image.size or person.size, image.upright or person.upright
    image.facts["people"] = [_facts(person, named) for person in persons]
    layers = [[number, person.mask] for number, person in enumerate(persons, 1) if person.mask]
    if layers and len(persons) > _MOST_MASKS:
      labels.left_out.append((photo, f"{len(persons)} persons; masks can tell {_MOST_MASKS} apart"))
      continue
    image.planes |= {"instances.png": {"layers": layers}} if layers else {}
    labels.images.append(image)
  return labels


def _facts(person: Person, legend: dict) -> dict:
  return {"id": person.id} | person.as_facts(legend) | ({"ignore": True} if person.ignored else {})
