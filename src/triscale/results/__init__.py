"""Records of results, saved by trainings, measurements and exports, and read by reports; without torch."""
