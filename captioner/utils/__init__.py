"""Helpers that know nothing of captions. This file imports nothing: some of them must run before torch."""
