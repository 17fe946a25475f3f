"""Decode, describe and transform single images."""
