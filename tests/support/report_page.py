"""A parsed page of `saip report`, and data and backbones for its tests."""

import html.parser

import jax
import numpy as np

from saip_jax.backbones import build_backbone
from saip_jax.interop.weights import LoadedBackbone, Preprocessing
from tests.support.coded_people import HW, CodedData, CodedPictures

_VOID = {"meta", "img", "br"}
_SVG_LEAVES = {"line", "polyline", "polygon", "circle"}


class Page(html.parser.HTMLParser):
  """A parsed page; raises AssertionError if tags do not match."""

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.words, self._open = [], [], []
    self.feed(text)
    self.close()
    assert not self._open, self._open
    self.text = " ".join(" ".join(self.words).split())

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag not in _VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attributes):
    assert tag in _SVG_LEAVES, tag
    self.tags.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    assert self._open.pop() == tag, tag

  def handle_data(self, data):
    if self._open and self._open[-1] not in ("script", "style"):
      self.words.append(data)

  def count(self, tag, **attributes):
    return sum(t == tag and all(a.get(k) == v for k, v in attributes.items()) for t, a in self.tags)

  def check_self_contained(self):
    """Asserts that no tag and no attribute refers to another file or address."""
    allowed = {
      "html",
      "head",
      "meta",
      "title",
      "style",
      "body",
      "header",
      "h1",
      "h2",
      "h3",
      "h4",
      "nav",
      "a",
      "main",
      "section",
      "p",
      "div",
      "dl",
      "dt",
      "dd",
      "span",
      "i",
      "b",
      "small",
      "code",
      "pre",
      "details",
      "summary",
      "table",
      "thead",
      "tbody",
      "tr",
      "th",
      "td",
      "figure",
      "figcaption",
      "svg",
      "g",
      "text",
      "img",
      "script",
    } | _SVG_LEAVES
    assert {tag for tag, _ in self.tags} <= allowed
    assert self.count("script") == 1
    for tag, attributes in self.tags:
      assert not any(name.startswith("on") for name in attributes), attributes
      for name in ("src", "href", "action", "data"):
        target = attributes.get(name, "#")
        assert target.startswith("#") or tag == "img" and target.startswith("data:image/"), target[:80]
      assert "url(" not in attributes.get("style", "")


WITHOUT_ATTENTION = LoadedBackbone(build_backbone("convnext_femto", image_hw=HW), {}, Preprocessing(HW))


def two_cameras():
  """Returns data of two cameras and ten persons: image n shows person n // 4."""
  facts = lambda n: {"people": [{"identity": n // 4}], "camera": n % 2}
  return CodedData(CodedPictures(range(0, 40, 2), facts), CodedPictures(range(1, 40, 2), facts))


def toy_vit():
  """Returns a small ViT with random weights."""
  module = build_backbone("vit_tiny", image_hw=HW, width=12, depth=2, heads=3, tapped_block=0)
  variables = jax.jit(lambda: module.init(jax.random.key(0), np.zeros((1, *HW, 3), np.float32), ("cls", "tokens")))()
  return LoadedBackbone(module, variables["params"], Preprocessing(HW))
