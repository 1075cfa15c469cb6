"""Masks: random choices of visible tokens, with static shapes."""
