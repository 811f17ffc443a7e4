"""Puts an IP camera live on an RTMP server, commanded over MQTT, and says plainly what is wrong when it is not."""

__version__ = "0.1.0"
