"""Newton's method for many small convex problems on the same features, solved together.

The problems share the products with the features, so that P problems cost little more than one. Each step is found by
conjugate gradients and shortened until the loss falls (Nocedal and Wright, Numerical Optimization, algorithm 7.1). The
preconditioner is the Kronecker product of the squared features along their principal directions and the mean curvature
of the logits, across classes: with that of each class alone, or with L-BFGS, most problems need several times as many
products.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

_TOLERANCE = 1e-6  # of the squared gradient, in the norm of the preconditioner: about twice what is above the minimum
_ACCURACY = 0.1  # of a step, in the same norm
_STEPS, _PRODUCTS, _HALVINGS = 50, 100, 20
_ROUNDING = 1e-6  # of a loss, relative
_NO_EXTENT = 1e-10  # of the sum of squares along the first direction
_FLAT = 1e-6  # of the largest curvature


@dataclasses.dataclass(frozen=True)
class Loss:
  """Losses of P problems at logits (n, P, C).

  Attributes:
    errors: (P,) float64.
    gradient: (n, P, C), with respect to the logits.
    curvature: (P, C, C), the second derivatives with respect to the logits of a row, mean over the rows.
    product: a change (n, P, C) of the logits -> the change (n, P, C) of the gradient.
  """

  errors: np.ndarray
  gradient: np.ndarray
  curvature: np.ndarray
  product: Callable[[np.ndarray], np.ndarray]


def principal_directions(x: np.ndarray) -> np.ndarray:
  """Returns (D, R) float32, orthonormal: the principal directions of rows x (n, D), without those of no extent."""
  x = x.astype(np.float64)
  wide = len(x) < x.shape[1]
  squares, directions = np.linalg.eigh(x @ x.T if wide else x.T @ x)
  used = squares > _NO_EXTENT * squares[-1]
  directions = directions[:, used]
  return (x.T @ (directions / np.sqrt(squares[used])) if wide else directions).astype(np.float32)


def minimize_all(
  x: np.ndarray,
  targets: np.ndarray,
  loss: Callable[[np.ndarray, np.ndarray], Loss],
  strengths: np.ndarray,
  start: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Minimizes  loss(x w, targets) + strength |w|^2 / 2  for each problem; the last weight, the intercept, is free.

  Args:
    x: (n, R) float32 features along principal directions; the last column is 1.
    targets: (n, P, C) float32.
    loss: (logits (n, Q, C), targets (n, Q, C)) -> the losses of any Q of the problems; convex.
    strengths: (P,) of the penalties, positive.
    start: (R, P, C) float32 weights to start from.

  Returns:
    (R, P, C) float32 weights and their logits (n, P, C).
  """
  weights, logits = start.copy(), _times(x, start)
  squares = np.square(x).sum(0)[:, None, None]
  penalties = np.ones_like(squares) * np.asarray(strengths, np.float32)[:, None]
  penalties[-1] = 0
  left = np.arange(targets.shape[1])  # problems that are not solved yet
  for _ in range(_STEPS):
    w, z, t, penalty = weights[:, left], logits[:, left], targets[:, left], penalties[:, left]
    found = loss(z, t)
    gradient = _times(x.T, found.gradient) + penalty * w
    precondition = _preconditioner(squares / len(x), found.curvature * len(x), penalty)
    wrong = _dot(gradient, precondition(gradient)) > _TOLERANCE
    if not wrong.any():
      break
    if not wrong.all():
      left = left[wrong]
      continue
    step, change = _newton_step(x, found, gradient, precondition, penalty)
    length = np.ones((len(left), 1), np.float32)
    value = found.errors + _dot(w, penalty * w) / 2
    for _ in range(_HALVINGS):
      w_new, z_new = w + length * step, z + length * change
      worse = loss(z_new, t).errors + _dot(w_new, penalty * w_new) / 2 > value * (1 + _ROUNDING)
      if not worse.any():
        break
      length[worse] /= 2
    weights[:, left], logits[:, left] = w_new, z_new
  return weights, logits


def _preconditioner(extent: np.ndarray, curvature: np.ndarray, penalty: np.ndarray) -> Callable:
  """Returns the approximate solution of  H s = g,  a function of g (R, P, C).

  Args:
    extent: (R, 1, 1) mean squares of the features.
    curvature: (P, C, C), see `Loss`, summed over the rows.
    penalty: (R, P, 1).
  """
  bends, bases = np.linalg.eigh(curvature.astype(np.float64))
  flat = bends <= _FLAT * bends[:, -1:]  # adding a number to the logits of all classes changes nothing
  bends, bases = np.where(flat, 0, bends).astype(np.float32), bases.astype(np.float32)
  scale = extent * bends + penalty
  scale = np.where(scale > 0, scale, np.inf)
  turned = lambda array, bases: (array.swapaxes(0, 1) @ bases).swapaxes(0, 1)
  return lambda gradient: turned(turned(gradient, bases) / scale, bases.swapaxes(1, 2))


def _newton_step(x, found: Loss, gradient, precondition, penalty) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps (R, P, C) towards the minima by conjugate gradients, and the changes (n, P, C) of the logits."""
  rest = -gradient
  direction = precondition(rest)
  size = _dot(rest, direction)  # squared, of what is left
  goal = _ACCURACY**2 * size
  step, change = np.zeros_like(gradient), np.zeros_like(found.gradient)
  for _ in range(_PRODUCTS):
    moved = _times(x, direction)
    bent = _times(x.T, found.product(moved)) + penalty * direction
    going = size > goal
    length = np.where(going, size / np.where(going, _dot(direction, bent), 1), 0).astype(np.float32)[:, None]
    step += length * direction
    change += length * moved
    rest -= length * bent
    scaled = precondition(rest)
    size, before = np.where(going, _dot(rest, scaled), size), size
    if (size <= goal).all():
      break
    direction = scaled + np.where(going, size / before, 0).astype(np.float32)[:, None] * direction
  return step, change


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns (P,) float64 inner products of a and b (R, P, C)."""
  return np.sum(a * b, axis=(0, 2), dtype=np.float64)


def _times(matrix: np.ndarray, array: np.ndarray) -> np.ndarray:
  """Returns (m, P, C), the product of a matrix (m, R) and an array (R, P, C)."""
  return (matrix @ array.reshape(len(array), -1)).reshape(len(matrix), *array.shape[1:])
