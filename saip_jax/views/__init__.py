"""Image operations that run on the accelerator, inside the jitted step.

Every function works on one sample and is vmapped by its caller: keys, boxes and switches differ per sample,
shapes never do. Inside a view pictures are planar float32, (3, H, W) in [0, 1]: whole planes fill vector
lanes and feed matrix products as they are, where a trailing axis of three channels would waste both.
`photometric.normalize` turns a finished view into the (H, W, 3) array that backbones, scenes and rescaling
read.

Resampling, blur and pasting are products with small weight matrices built from the sample's own numbers:
no gather or scatter with per-sample indices, which a TPU does slowly. A choice made with probability p is
a parameter (a factor of one, a blur of width zero), never a branch.
"""
