"""Licenses of published encoders whose terms follow the networks that are made with them."""

import re
from collections.abc import Mapping

# Families whose terms are known here, by a sign in a name.
_FAMILIES = {
  "EUPE": (r"eupe", "Meta's license of EUPE, for non-commercial research"),  # first: timm's names say dinov3 as well
  "DINOv3": (r"dinov3", "the DINOv3 License of Meta"),
  "MAE": (r"(?<![a-z])mae(?![a-z])", "CC BY-NC 4.0, not for commercial use"),
}
_SIGNS = {family: re.compile(sign, re.IGNORECASE) for family, (sign, _) in _FAMILIES.items()}


def terms_of(role: str, names: Mapping[str, str]) -> str:
  """Returns a sentence on the license of other weights that a network was made with.

  They are recognized by names alone, and the sentence says by which.

  Args:
    role: what they were, such as "expert".
    names: where a name is from -> name; the first that shows a known family counts.
  """
  *_, own = names.values()
  what = f"Made with other weights ({role}: {own})"
  for source, name in names.items():
    for family, sign in _SIGNS.items():
      if sign.search(name):
        return (
          f"{what}, taken for {family} by {source}, {name!r}: its license, {_FAMILIES[family][1]}, follows these"
          " weights. Read it before you publish or use them."
        )
  return f"{what}, of no family whose license is known here: look up its license, whose terms may follow these weights."
