"""What both jobs know about the edge: the Cloudflare client, errors, settings, logging, wire types."""

__version__ = "0.1.0"
