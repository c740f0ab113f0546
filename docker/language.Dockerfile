# A replica with a language model, on CUDA where the machine has it (docker run --gpus all). Which model: a parameter
# file for the node `generate`, mounted and given as params:=. Stands on skyfog-replica; torch from PyPI brings CUDA.
# hadolint ignore=DL3006
FROM skyfog-replica

USER 0
RUN ./ws extra inference && rm -rf /root/.cache .ws/log
ENV SKYFOG_RUN="exec ros2 launch skyfog_bringup cloud.launch.py role:=generate metrics_listen:=127.0.0.1:7701"
USER 10001
