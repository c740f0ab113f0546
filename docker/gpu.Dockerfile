# A replica on a machine with an NVIDIA GPU: detection and segmentation choose CUDA by themselves where onnxruntime has
# it. Stands on skyfog-replica; CUDA and cuDNN come from PyPI, the driver from the host (docker run --gpus all).
# hadolint ignore=DL3006
FROM skyfog-replica

USER 0
# Both packages are the module onnxruntime: the one without CUDA has to go. Libraries in a venv are found by no loader.
RUN .venv/bin/uv pip uninstall --python .venv/bin/python onnxruntime \
  && .venv/bin/uv pip install --no-cache --python .venv/bin/python "onnxruntime-gpu[cuda,cudnn]==1.31.1" \
  && printf '%s\n' /opt/skyfog/.venv/lib/python3.*/site-packages/nvidia/*/lib > /etc/ld.so.conf.d/skyfog-cuda.conf \
  && ldconfig
USER 10001
