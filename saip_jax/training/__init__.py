"""The trainer: state, step, loop and what they need. It knows no method."""
