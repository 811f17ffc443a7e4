"""A real Home Assistant beside the demo's agent, and what it makes of it: `scripts/test-homeassistant`."""
