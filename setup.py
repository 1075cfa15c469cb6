"""What pyproject.toml cannot express: the recipes of `configs/` are installed as `saip_jax/configs`."""

from setuptools import find_packages, setup

setup(
  packages=[*find_packages(include=["saip_jax*", "input_pipeline*"]), "saip_jax.configs"],
  package_dir={"saip_jax.configs": "configs"},
)
