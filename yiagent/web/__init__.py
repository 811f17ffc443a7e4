"""The page: the way in when the broker is away. microdot behind a guard of our own, and static files."""
