"""Names of files as text. On Linux a name may be any bytes; those that are no UTF-8 become escapes, `\\xe9`."""

import codecs
import re

ESCAPED = "saip_escaped"
"""Error handler of `str.encode`, `open` and streams: writes such bytes, and characters that an encoding lacks, as
escapes."""


def shown(name: str) -> str:
  """Returns a name for any terminal or JSON reader: bytes that are no UTF-8, and control characters, as escapes."""
  try:
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # in any locale
  except UnicodeEncodeError:  # half a surrogate pair, which is no byte
    text = name.encode("utf-8", ESCAPED).decode()
  return "".join(
    character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
  )


def shown_error(error: BaseException) -> str:
  """Returns the message of an error on one line, or the name of its class; names in it are as `shown` returns them."""
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
