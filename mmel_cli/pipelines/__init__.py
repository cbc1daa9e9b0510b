"""The only wiring: sources, model, method, archive and pictures put together."""
