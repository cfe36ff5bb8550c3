"""Total variation in time and space: the method, its linear system, initial images of networks."""
