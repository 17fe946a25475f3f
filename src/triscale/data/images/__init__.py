"""Decode, fingerprint and transform single images."""
