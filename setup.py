"""What pyproject.toml cannot express: recipes of `configs/` are installed as `saip_jax/configs`, models as they are."""

import pathlib

from setuptools import find_packages, setup

folders = [path for path in sorted(pathlib.Path("saip_jax/pretrained").rglob("*")) if path.is_dir()]
models = [".".join(folder.parts) for folder in folders]  # for setuptools, folders of data are packages, too
setup(
  packages=[*find_packages(include=["saip_jax*", "input_pipeline*"]), "saip_jax.configs", *models],
  package_dir={"saip_jax.configs": "configs"},
  package_data={"saip_jax": ["py.typed"], "input_pipeline": ["py.typed"]} | {name: ["*"] for name in models},
)
