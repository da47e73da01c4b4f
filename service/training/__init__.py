"""The training table: what a model would have been given, for each patient and moment, from files of resources."""
