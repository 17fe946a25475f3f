"""From records in a directory to the content of a report."""
