"""Hyperparameter search for image classifiers whose Grad-CAM explanations are consistent and sparse."""

__version__ = "0.1.0"
