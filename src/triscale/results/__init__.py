"""Records of results: what trainings, measurements and exports leave behind. No torch, no computing."""
