"""Image augmentations that run on the accelerator, inside the jitted step.

Every function works on one sample and is vmapped by its caller: keys, boxes and switches differ between samples, shapes
do not. Views in the making are planar float32, (3, H, W) in [0, 1], because whole planes fill vector lanes and matrix
units, and a trailing axis of three channels does not. `photometric.normalize` converts a finished view to the (H, W, 3)
array that backbones, scenes and rescaling read.

Resampling, blur and pasting are products with small weight matrices computed from the parameters of the sample. They
avoid gathers and scatters with per-sample indices, which are slow on TPUs. Augmentations applied with a probability are
parameters (a factor of one, a blur of width zero), not branches.
"""
