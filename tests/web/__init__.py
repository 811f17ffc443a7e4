"""The page: its parts, its API, and real browsers."""
