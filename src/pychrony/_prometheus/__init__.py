"""What `pychrony.prometheus` exports, described without prometheus_client."""
