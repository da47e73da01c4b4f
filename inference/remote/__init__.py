"""Models that other servers run, called by the Open Inference Protocol, version 2."""
