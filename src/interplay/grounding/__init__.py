"""Detectors that find what a phrase names."""
