"""Names of files as text. On Linux a name may be any bytes: those that are no UTF-8 are written as escapes, `\\xe9`."""

import codecs
import re

ESCAPED = "saip_escaped"
"""Error handler of `str.encode`, `open` and streams: writes such bytes, and what an encoding lacks, as escapes."""


def shown(name: str) -> str:
  """A name as any terminal and any JSON reader can take it: bytes that are no UTF-8 and control characters escaped."""
  try:
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # in any locale
  except UnicodeEncodeError:  # half a pair, which stands for no byte
    text = name.encode("utf-8", ESCAPED).decode()
  return "".join(
    character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
  )


def shown_error(error: BaseException) -> str:
  """An error's message on one line, or the name of its class; names in it, in quotes or not, as `shown` has them."""
  message = " ".join(str(error).split()) or type(error).__name__
  quoted = re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", message)  # as repr() writes such a byte
  return quoted.encode("utf-8", ESCAPED).decode()


def _escape(error: UnicodeError) -> tuple[str, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  lost = error.object[error.start : error.end]
  return "".join(
    f"\\x{ord(character) - 0xDC00:02x}"
    if "\udc80" <= character <= "\udcff"
    else character.encode("ascii", "backslashreplace").decode()
    for character in lost
  ), error.end


codecs.register_error(ESCAPED, _escape)
