"""DINO: self-distillation with an EMA teacher."""
