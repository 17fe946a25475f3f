"""Reports of runs and studies, from the records in their folders."""
