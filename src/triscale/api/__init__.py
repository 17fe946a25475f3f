"""The public functions: names, paths and text are accepted wherever an object is."""
