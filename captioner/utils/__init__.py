"""Utilities for all packages."""
