"""Which tokens a method sees: (key, grid, ratio) -> indices of static length."""
