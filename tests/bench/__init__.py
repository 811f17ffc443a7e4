"""Figures of the agent beside another program's, on the same work in the same run. `scripts/bench` runs this."""
