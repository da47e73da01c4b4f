"""A process in which the code of a model runs, without files, sockets or other processes."""
