"""Sources of images: folders, manifests, tables, tar shards, named and remote datasets."""
