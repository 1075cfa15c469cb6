"""Cross-view and cross-pose completion (CroCo, CroCo-Human)."""
