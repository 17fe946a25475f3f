"""Where images lie: folders, tables, tar shards, named and remote data sets."""
