"""The only place where the parts meet: each job takes records and a Run, and leaves files in it."""
