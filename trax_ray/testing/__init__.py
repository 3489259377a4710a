"""Stand-ins for tests, of trax_ray and of what is built on it: a clock, scripted attempts, task factories."""
