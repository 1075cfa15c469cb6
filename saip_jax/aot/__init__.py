"""Ahead-of-time compilation: what a train step costs on TPUs and GPUs, without having one."""
