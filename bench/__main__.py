"""`python bench`: this project and its peers on the same weights, noise and steps; see docs/benchmarks.md."""

from harness.command import bench

if __name__ == "__main__":
    bench()
