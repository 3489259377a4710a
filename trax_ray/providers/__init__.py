"""Models and services behind Protocols: see `trax_ray.providers.base`."""
