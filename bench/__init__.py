"""The side-by-side benchmarks of `make bench`; ours has bounds, the yardsticks have none."""
