"""Columns to tensors: the catalogue of steps, the compiler, and the plan that training and serving share."""

from gateway.features.plan import Plan

__all__ = ["Plan"]
