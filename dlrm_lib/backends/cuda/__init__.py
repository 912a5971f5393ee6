"""One NVIDIA GPU: kernels in Triton, and the whole step of SGD as one CUDA graph."""
