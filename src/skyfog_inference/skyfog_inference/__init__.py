"""Language models on few or small accelerators: NEO's schedule for requests, MoE-Lightning's for batches.

Control plane, pure (no torch, clock or thread): `request blocks scheduler/ cost/ placement/`. Data plane: `models/
layers/ attention/ kv_cache weights/ tier link/ runner/ sampler profile`. Faces: `engine server/ batch cli nodes/`.
"""
