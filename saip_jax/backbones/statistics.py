"""Running statistics of batch norms: a separate collection in Linen, leaves beside the parameters in files."""

_LEAVES = ("mean", "var")  # names in nn.BatchNorm; no parameter has them


def split_statistics(tree: dict) -> dict[str, dict]:
  """Splits a tree of both into {"params": ..., "batch_stats": ...}, the second only if there are statistics."""
  params, statistics = {}, {}
  for name, value in tree.items():
    if isinstance(value, dict):
      parts = split_statistics(value)
      params |= {name: parts["params"]} if parts["params"] else {}
      statistics |= {name: parts["batch_stats"]} if "batch_stats" in parts else {}
    elif name in _LEAVES:
      statistics[name] = value
    else:
      params[name] = value
  return {"params": params} | ({"batch_stats": statistics} if statistics else {})


def join_statistics(params: dict, statistics: dict | None) -> dict:
  """Inverse of `split_statistics`: one tree with the running statistics as leaves beside scale and bias."""
  joined = dict(params)
  for name, value in (statistics or {}).items():
    joined[name] = join_statistics(params.get(name, {}), value) if isinstance(value, dict) else value
  return joined
