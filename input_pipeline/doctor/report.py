"""Facts and advice as text for a terminal, the worst first."""

import textwrap

from input_pipeline.doctor.inspect_image import TRAITS
from input_pipeline.names import shown
from input_pipeline.sources.annotated.categories import categories_text

_EXAMPLES, _REASONS, _NAMES_OF_A_GROUP = 5, 10, 3
_WIDTH = 110

# Traits that are listed after damage; all others follow the sizes.
_BAD_TRAITS = ("drawn", "wrong_extension", "name_not_utf8", "blank", "tiny")


def doctor_report(facts: dict) -> str:
  """Returns the report of `saip doctor`, without empty sections.

  Args:
    facts: from `doctor`.

  Returns:
    The text, without a line break at its end.
  """
  sections = [
    _head(facts),
    _unreadable(facts),
    _traits(facts, _BAD_TRAITS),
    _duplicates(facts),
    _sizes(facts),
    _traits(facts, [trait for trait in TRAITS if trait not in _BAD_TRAITS]),
    _speed(facts),
    _advice(facts),
    _written(facts),
  ]
  return "\n\n".join("\n".join(section) for section in sections if section)


def _head(facts: dict) -> list[str]:
  source = facts["source"]
  seen = (
    "all examined"
    if facts["sample_seed"] is None
    else (f"a sample of {facts['examined']:,} examined, seed {facts['sample_seed']}")
  )
  split = f", split {facts['split']}" if facts["split"] else ""
  return [
    f"{facts['path']}",
    f"  {facts['images']:,} images, {seen}; read as {facts['kind']}{split} (digest {source['digest']})",
  ] + _wrapped([*map(shown, categories_text(facts["categories"])), *_unread(facts), *facts["known"]])


def _unread(facts: dict) -> list[str]:
  files = facts["unread_annotations"]
  listed = ", ".join(files[:_EXAMPLES]) + f" and {len(files) - _EXAMPLES:,} more" * (len(files) > _EXAMPLES)
  return [f"Annotations that were not read: {listed} (choose with --split=NAME, or a file as PATH)."] if files else []


def _unreadable(facts: dict) -> list[str]:
  lines = []
  for key, title in (("unreadable", "cannot be read"), ("left_out", "left out when the data set was opened")):
    found = facts[key]
    if not found["count"]:
      continue
    lines.append(f"{found['count']:>9,}  {title}" + (f" ({_percent(found['share'])})" if "share" in found else ""))
    if found["count"] <= _EXAMPLES:
      lines += [f"             {item['name']}: {item['reason']}" for item in found["images"]]
      continue
    examples = {item["reason"]: item["name"] for item in reversed(found["images"])}
    for reason, count in list(found["reasons"].items())[:_REASONS]:
      lines.append(f"           {count:>7,}  {reason}" + (f" (e.g. {examples[reason]})" if reason in examples else ""))
    if len(found["reasons"]) > _REASONS:
      lines.append(f"                    ... and {len(found['reasons']) - _REASONS:,} more reasons")
  return (["Damage"] + lines) if lines else ["Damage: none found"]


def _duplicates(facts: dict) -> list[str]:
  lines = []
  for key, title in (("exact", "the same bytes as another image"), ("near", "nearly the same as another image")):
    found = facts["duplicates"][key]
    if not found["count"]:
      continue
    groups = f"{found['groups']:,} group{'s' if found['groups'] > 1 else ''}"
    lines.append(f"{found['count']:>9,}  {title} ({_percent(found['share'])}, {groups})")
    for group in found["biggest"][:_EXAMPLES]:
      more = f", and {group['size'] - _NAMES_OF_A_GROUP:,} more" if group["size"] > _NAMES_OF_A_GROUP else ""
      lines.append(
        f"             {' = ' if key == 'exact' else ' ~ '}".rstrip()
        + " "
        + ", ".join(group["names"][:_NAMES_OF_A_GROUP])
        + more
      )
    lines += _rest(found["groups"], "groups")
  return ["Copies"] + lines if lines else ["Copies: none found"]


def _traits(facts: dict, traits) -> list[str]:
  found = {trait: facts["traits"][trait] for trait in traits if facts["traits"][trait]["count"]}
  lines = []
  for trait, entry in sorted(found.items(), key=lambda item: -item[1]["count"]):
    lines.append(f"{entry['count']:>9,}  {TRAITS[trait]} ({_percent(entry['share'])})")
    if traits is _BAD_TRAITS or entry["share"] < 0.5:  # frequent traits need no examples
      lines += [f"             {name}" for name in entry["names"][:_EXAMPLES]] + _rest(entry["count"])
  title = "Doubtful" if traits is _BAD_TRAITS else "Worth knowing"
  return [title] + lines if lines else []


def _sizes(facts: dict) -> list[str]:
  sizes = facts["sizes"]
  if sizes["height"]["min"] is None:
    return []
  columns = list(sizes["height"])
  lines = ["Sizes          " + "".join(f"{column:>9}" for column in columns)]
  for key, digits in (("height", 0), ("width", 0), ("shorter_side", 0), ("aspect", 2), ("megapixels", 3)):
    label = {"aspect": "height / width", "shorter_side": "shorter side"}.get(key, key)
    lines.append(f"{label:<15}" + "".join(f"{sizes[key][column]:>9,.{digits}f}" for column in columns))
  return lines


def _speed(facts: dict) -> list[str]:
  speed = facts["speed"]
  if not speed["images_per_second_one_thread"]:
    return []
  cores = f"{speed['cores']} cores" if speed["cores"] > 1 else "1 core"
  return [
    "Speed of this machine's host side",
    f"  {speed['images_per_second_one_thread']:,.0f} images/s by one thread: read and decoded onto a canvas of "
    f"{speed['canvas_hw'][0]}x{speed['canvas_hw'][1]}",
    f"  an epoch takes {duration(speed['epoch_seconds'])} on {cores} without other load (an image and a scene each)",
  ]


def _advice(facts: dict) -> list[str]:
  return ["Advice"] + _wrapped(facts["advice"], "- ") if facts["advice"] else []


def _written(facts: dict) -> list[str]:
  if facts["out"] is None:
    return []
  subset = f", subset.txt ({facts['subset']['count']:,} names)" if facts["subset"] else ""
  return [f"Written to {facts['out']}: doctor.json, sizes.png, unreadable.txt, duplicates.txt{subset}"]


def _wrapped(sentences: list[str], bullet: str = "") -> list[str]:
  """Wraps sentences between words, never within a path or an option."""
  return [
    line
    for sentence in sentences
    for line in textwrap.wrap(
      sentence,
      _WIDTH,
      initial_indent="  " + bullet,
      subsequent_indent="  " + " " * len(bullet),
      break_long_words=False,
      break_on_hyphens=False,
    )
  ]


def _rest(count: int, what: str = "") -> list[str]:
  return [f"             ... and {count - _EXAMPLES:,} more {what}".rstrip()] if count > _EXAMPLES else []


def _percent(share: float) -> str:
  return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def duration(seconds: float) -> str:
  """Returns a time as text in a suitable unit."""
  for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
    if seconds >= 2 * length:
      return f"about {seconds / length:.1f} {unit}"
  return f"about {seconds:.0f} seconds" if seconds >= 2 else "less than two seconds"
