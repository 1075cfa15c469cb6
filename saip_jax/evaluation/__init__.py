"""Evaluation of backbones: features of images, and scores of human-centric tasks."""
