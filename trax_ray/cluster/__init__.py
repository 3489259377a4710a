"""The only place that imports Ray: connecting, the coordinator actor, remote functions, sampling."""
