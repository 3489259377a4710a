"""What only our tests and benchmarks need: a speech service, a disk that fails, models made on the spot."""
