"""The side-by-side benchmarks of `make bench`; every printed figure has a bound."""
