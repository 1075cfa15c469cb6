"""Forms of a ViT that the network here computes exactly, and those that it does not; values that are not finite."""

import os

import ml_dtypes
import numpy as np
import pytest
from damaged_files import write_images
from toy_weights import add_toy_backbone, random_weights, save_pth, timm_file

from saip_jax import cli
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.importing import import_weights, report
from saip_jax.interop.tables import refuse_not_finite
from saip_jax.interop.tensor_files import write_safetensors
from saip_jax.interop.torch_model import why_missing
from saip_jax.interop.weights import load_backbone, open_weights
