"""Cross-modality knowledge distillation of bird's-eye-view 3D object detectors."""

__version__ = "0.1.0"
