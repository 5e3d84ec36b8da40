"""Metrics and calibration, as plain functions of arrays."""
