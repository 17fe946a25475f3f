"""What every job uses: runs, the execution context, progress and stopping."""
