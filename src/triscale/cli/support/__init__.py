"""Shared by the commands: options, messages, tables, durations."""
