"""Real programs for the tests to talk to: cameras, servers and brokers, all on loopback and all ended by pid."""
