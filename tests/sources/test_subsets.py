"""Subsets of a data set: drawn the same everywhere, written to a file and read back."""

import pathlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.sources.subset import choose_subset, read_subset, write_subset
from tests.support.noise_pictures import Named

_NAMES = st.lists(st.binary(max_size=12), min_size=1, max_size=60, unique=True)


@given(_NAMES, st.data(), st.integers(0, 5))
@settings(deadline=None)
def test_subsets_are_nested_exact_and_independent_of_order(names, data, seed):
  count = data.draw(st.integers(1, len(names)))
  smaller = data.draw(st.integers(1, count))
  shuffled = data.draw(st.permutations(names))
  chosen = choose_subset(names, count, seed)
  assert len(chosen) == count and (np.diff(chosen) > 0).all()
  assert {names[i] for i in chosen} == {shuffled[i] for i in choose_subset(shuffled, count, seed)}
  assert set(choose_subset(names, smaller, seed)) <= set(chosen)


def test_a_subset_never_changes_and_depends_on_the_seed():
  names = [b"%d.jpg" % i for i in range(1000)]
  assert choose_subset(names, 5, 0).tolist() == [191, 563, 852, 928, 973]
  assert set(choose_subset(names, 500, 0)) != set(choose_subset(names, 500, 1))


@given(
  st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, unique=True),
  st.data(),
)
@settings(deadline=None, max_examples=50)
def test_a_written_subset_is_read_back_with_any_names(tmp_path_factory, names, data):
  path = str(tmp_path_factory.mktemp("subset") / "subset.txt")
  names = names + ["caf\udce9.jpg", "#header.jpg", "# header\n\\n.jpg"]
  source = Named(list(dict.fromkeys(names)))
  count = data.draw(st.integers(1, len(source)))
  chosen = write_subset(path, source, count, 0)
  assert (read_subset(path, source) == chosen).all()
  again = Named(data.draw(st.permutations(source._names)) + ["one more"])
  assert {again.name(i) for i in read_subset(path, again)} == {source.name(i) for i in chosen}


def test_a_subset_of_other_data_or_too_large_is_refused(tmp_path):
  path = str(tmp_path / "subset.txt")
  write_subset(path, Named(["a", "b", "c"]), 3, 0)
  assert pathlib.Path(path).read_text().startswith("# 3 of the 3 images of folder 'named'")
  for call, part in [
    (lambda: read_subset(path, Named(["a", "x"])), "2 of the 3 names"),
    (lambda: write_subset(path, Named(["a"]), 2, 0), "only 1"),
    (lambda: choose_subset([b"a"], 0, 0), "1 or more"),
    (lambda: read_subset(str(tmp_path / "none"), Named(["a"])), "cannot be read"),
    (lambda: write_subset(str(tmp_path / "no" / "x"), Named(["a"]), 1, 0), "cannot be written"),
  ]:
    with pytest.raises(ValueError) as error:
      call()
    assert part in str(error.value) and "\n" not in str(error.value)
