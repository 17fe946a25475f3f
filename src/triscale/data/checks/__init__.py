"""What is wrong or doubtful with a data set: damage, empty classes, duplicates."""
