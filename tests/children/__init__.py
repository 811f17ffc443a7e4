"""Programs that misbehave on demand, each named after how; for what the real ffmpeg cannot be made to do."""
