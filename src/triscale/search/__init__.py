"""What to try next: candidates, and methods that choose among them. The evaluation is passed in. No torch."""
