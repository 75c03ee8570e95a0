"""The operator's settings: a file, drop-ins beside it, the environment, flags; later ones win key by key.

    /etc/criimage/config.toml  <  conf.d/*.toml in order of their names  <  CRIIMAGE_*  <  --set and other flags

tables         what can be set
layers         where it comes from
faults         what is wrong with it, in words

Every key is declared in `tables` or in the chosen backend's own model; an unknown one is an error that names where it
stands.
"""

from criimage.settings.layers import Layers, collect_layers, read_layers, read_value
from criimage.settings.tables import LimitSettings, Settings, SocketSettings, TracingSettings

__all__ = [
    "Layers",
    "LimitSettings",
    "Settings",
    "SocketSettings",
    "TracingSettings",
    "collect_layers",
    "read_layers",
    "read_value",
]
