"""The Open Inference Protocol (KServe v2, REST): other systems call the registered models under ``/v2``."""

from service.inference_protocol.infer import InferenceServices
from service.inference_protocol.routes import inference_routes

__all__ = ["InferenceServices", "inference_routes"]
